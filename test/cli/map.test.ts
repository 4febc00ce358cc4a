/** `--map`: local ports for TCP and TLS services. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { clientHello } from '../support/client_hello.ts';
import { PillionProcess, runPillion } from '../support/pillion_process.ts';
import { ByteServer, byteClient, readBytes } from '../support/tcp_resources.ts';

const NO_PORTS = [
  '--admin',
  '127.0.0.1:0',
  '--status',
  '127.0.0.1:0',
  '--metrics',
  '127.0.0.1:0',
  '--outbound',
  '127.0.0.1:0',
];

/** `db.shop.internal` with a TCP port, a TLS port by server name and an HTTP port. */
const mesh = (tcp: number, tls: number): string => `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: db, namespace: default }
spec:
  hosts: [db.shop.internal]
  location: MESH_INTERNAL
  resolution: STATIC
  ports:
    - { number: 5432, name: tcp-db, protocol: TCP, targetPort: ${tcp} }
    - { number: 443, name: tls, protocol: TLS, targetPort: ${tls} }
    - { number: 80, name: http, protocol: HTTP }
  endpoints: [{ address: 127.0.0.1 }]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: db, namespace: default }
spec:
  hosts: [db.shop.internal]
  tls:
    - match: [{ port: 443, sniHosts: [db.shop.internal] }]
      route: [{ destination: { host: db.shop.internal, port: { number: 443 } } }]
`;

describe('--map', () => {
  it('--map carries TCP and TLS to the service, and dev says where when it is ready', async (t) => {
    const [tcp, tls] = [await ByteServer.start(t), await ByteServer.start(t)];
    const process = new PillionProcess(
      t,
      [
        'dev',
        '-c',
        '-',
        ...NO_PORTS,
        '--map',
        '127.0.0.1:0=db.shop.internal:5432',
        '--map',
        '127.0.0.1:0=db.shop.internal:443',
      ],
      { input: mesh(tcp.port, tls.port) },
    );
    const [, plain] = await process.until(/map +127\.0\.0\.1:(\d+) → db\.shop\.internal:5432/);
    const [, secure] = await process.until(/map +127\.0\.0\.1:(\d+) → db\.shop\.internal:443/);
    const client = await byteClient(t, Number(plain));
    client.write('select 1');
    const upstream = await tcp.next();
    assert.equal((await readBytes(upstream, 8)).toString(), 'select 1');
    upstream.write('1');
    assert.equal((await readBytes(client, 1)).toString(), '1');
    const hello = clientHello({ serverName: 'db.shop.internal' });
    (await byteClient(t, Number(secure))).write(hello);
    assert.deepEqual(await readBytes(await tls.next(), hello.length), hello);
    client.end();
    upstream.end();
    await process.until(/"- - -" 0 - - - "-" 8 1 \d+ .*"127\.0\.0\.1:\d+" outbound\|5432\|\|db\.shop\.internal/);
  });

  for (const [says, mapping, code, complaint] of [
    [
      'it has no target',
      '127.0.0.1:1',
      2,
      /--map wants ADDRESS:PORT=HOST:PORT such as 127\.0\.0\.1:5432=db\.shop:5432, got "127\.0\.0\.1:1"/,
    ],
    ['its address is none', 'x:1=db:1', 2, /--map wants ADDRESS:PORT/],
    [
      'no service has the name',
      '127.0.0.1:0=db.shop.interna:5432',
      1,
      /no service is called "db\.shop\.interna" \(did you mean "db\.shop\.internal"\?\)/,
    ],
    [
      'the service has no such port',
      '127.0.0.1:0=db.shop.internal:1',
      1,
      /has no port 1; it has 5432 \(TCP\), 443 \(TLS\), 80 \(HTTP\)/,
    ],
    [
      'the port is HTTP',
      '127.0.0.1:0=db.shop.internal:80',
      1,
      /port 80 of db\.shop\.internal is HTTP, which is routed by request; ask the outbound proxy/,
    ],
  ] as const) {
    it(`--map is refused with a reason when ${says}`, async (t) => {
      const ended = await runPillion(t, ['run', '-c', '-', ...NO_PORTS, '--map', mapping], { input: mesh(1, 2) });
      assert.match(ended.stderr, complaint);
      assert.notEqual(ended.code, 0);
      if (code === 2) assert.equal(ended.code, 2);
    });
  }

  it('dev says how to reach a service that does not speak HTTP', async (t) => {
    const dev = new PillionProcess(t, ['dev', '-c', '-', ...NO_PORTS], { input: mesh(1, 2) });
    await dev.until(
      /--map 127\.0\.0\.1:5432=db\.shop\.internal:5432 opens a local port for db\.shop\.internal \(TCP\)/,
    );
  });
});
