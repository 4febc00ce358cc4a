/** The DNS proxy as a resolver sees it: real sockets, Node's own c-ares, and dig where it is installed. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { Resolver } from 'node:dns/promises';
import { connect } from 'node:net';
import { describe, it } from 'node:test';
import { promisify } from 'node:util';
import { decode as decodePacket, type DecodedPacket, encode, type Packet } from 'dns-packet';
import { DnsServer } from '../../../proxy/dns/dns_server.ts';
import { framed } from '../../../proxy/dns/forwarder.ts';
import { type NamedHost, readNameTable } from '../../../proxy/dns/name_table.ts';
import { readResolvConf } from '../../../proxy/dns/resolv_conf.ts';
import { findProgram } from '../../support/find_program.ts';
import type { Scope } from '../../support/scope.ts';

/** The types lack what is read of the flags. */
interface Answer extends DecodedPacket {
  readonly rcode: string;
}

const decode = (bytes: Buffer): Answer => decodePacket(bytes) as Answer;

const host = (ips: readonly string[], altHosts: readonly string[] = []): NamedHost => ({
  ips,
  registry: 'Kubernetes',
  shortname: '',
  namespace: 'shop',
  altHosts,
});

const TABLE = new Map([
  ['cart.shop.svc.cluster.local', host(['10.0.0.1', '10.0.0.2', 'fd00::1'], ['cart', 'cart.shop', 'cart.shop.svc'])],
  ['api.example.com', host(['240.240.0.1'])],
  ['*.wild.example', host(['240.240.0.2'])],
  ['big.example', host(Array.from({ length: 200 }, (_, index) => `10.1.${index}.1`))],
]);

interface Upstream {
  readonly port: number;
  readonly asked: string[];
}

/** Answers every name with 192.0.2.1, but what `answer` says; undefined: nothing. */
async function upstream(t: Scope, answer: (question: Packet) => Buffer | undefined = answerAll): Promise<Upstream> {
  const asked: string[] = [];
  const socket = createSocket('udp4');
  socket.on('message', (message, from) => {
    const question = decode(message);
    asked.push(question.questions?.[0]?.name ?? '');
    const reply = answer(question);
    if (reply !== undefined) socket.send(reply, from.port, from.address);
  });
  await new Promise<void>((resolve) => socket.bind(0, '127.0.0.1', resolve));
  t.after(() => void socket.close());
  return { port: socket.address().port, asked };
}

function answerAll(question: Packet): Buffer {
  const name = question.questions?.[0]?.name ?? '';
  return encode({
    type: 'response',
    id: question.id ?? 0,
    questions: question.questions ?? [],
    answers: [{ type: 'A', name, ttl: 5, data: '192.0.2.1' }],
  });
}

interface Options {
  readonly table?: typeof TABLE | null;
  readonly servers?: readonly number[];
  readonly search?: readonly string[];
  readonly timeoutMs?: number;
  readonly parallel?: boolean;
}

async function start(
  t: Scope,
  options: Options = {},
): Promise<{ readonly port: number; readonly server: DnsServer; readonly resolver: Resolver }> {
  const server = new DnsServer({
    ip: '127.0.0.1',
    port: 0,
    upstream: {
      servers: (options.servers ?? []).map((port) => ({ ip: '127.0.0.1', port })),
      search: options.search ?? [],
    },
    timeoutMs: options.timeoutMs ?? 1000,
    parallel: options.parallel ?? false,
    random: Math.random,
  });
  const port = await server.listen();
  t.after(() => server.close());
  if (options.table !== null) server.setTable(options.table ?? TABLE);
  const resolver = new Resolver({ timeout: 20_000, tries: 1 });
  resolver.setServers([`127.0.0.1:${port}`]);
  return { port, server, resolver };
}

function ask(port: number, message: Buffer): Promise<Answer> {
  return new Promise((resolve) => {
    const socket = createSocket('udp4');
    socket.on('message', (answer) => {
      socket.close();
      resolve(decode(answer));
    });
    socket.send(message, port, '127.0.0.1');
  });
}

const query = (name: string, type: 'A' | 'AAAA' | 'TXT' = 'A', more: Partial<Packet> = {}): Buffer =>
  encode({ type: 'query', id: 4711, flags: 0x0100, questions: [{ type, name }], ...more });

describe('DnsServer', () => {
  it('answers both families of a name that the mesh knows, with a TTL of 30 s', async (t) => {
    const { resolver } = await start(t);
    const v4 = await resolver.resolve4('cart.shop.svc.cluster.local', { ttl: true });
    assert.deepEqual(v4.map(({ address }) => address).sort(), ['10.0.0.1', '10.0.0.2']);
    assert.equal(v4[0]?.ttl, 30);
    assert.deepEqual(await resolver.resolve6('CART.shop'), ['fd00::1']);
  });

  it('answers with authority, in an order that changes', async (t) => {
    const { port } = await start(t);
    const firsts = new Set<unknown>();
    for (let asked = 0; asked < 60; asked++) {
      const answer = await ask(port, query('cart.shop'));
      assert.equal(answer.flag_aa, true);
      const [first] = answer.answers ?? [];
      firsts.add(first !== undefined && 'data' in first ? first.data : undefined);
    }
    assert.deepEqual([...firsts].sort(), ['10.0.0.1', '10.0.0.2']);
  });

  it('takes the longest wildcard, and a name itself before any', async (t) => {
    const table = new Map([
      ['*.example', host(['240.240.0.1'])],
      ['*.deep.example', host(['240.240.0.2'])],
      ['own.deep.example', host(['240.240.0.3'])],
    ]);
    const { resolver } = await start(t, { table });
    const found = async (name: string): Promise<string | undefined> => (await resolver.resolve4(name))[0];
    assert.equal(await found('a.example'), '240.240.0.1');
    assert.equal(await found('a.deep.example'), '240.240.0.2');
    assert.equal(await found('own.deep.example'), '240.240.0.3');
  });

  it('never asks elsewhere for a name that a search domain made longer', async (t) => {
    const other = await upstream(t);
    const { port } = await start(t, { servers: [other.port], search: ['shop.svc.cluster.local'] });
    const answer = await ask(port, query('api.example.com.shop.svc.cluster.local', 'AAAA'));
    assert.equal(answer.rcode, 'NOERROR');
    assert.deepEqual(other.asked, []);
  });

  it('spreads what it asks over the servers of the workload', async (t) => {
    const [a, b] = [await upstream(t), await upstream(t)];
    const { port } = await start(t, { servers: [a.port, b.port] });
    for (let asked = 0; asked < 60; asked++) await ask(port, query('elsewhere.example'));
    assert.equal(a.asked.length + b.asked.length, 60);
    assert.ok(a.asked.length > 5 && b.asked.length > 5, `${a.asked.length} and ${b.asked.length}`);
  });

  it('answers an empty NOERROR, and asks nobody, when a known name lacks the family', async (t) => {
    const other = await upstream(t);
    const { port } = await start(t, { servers: [other.port] });
    const answer = await ask(port, query('api.example.com', 'AAAA'));
    assert.equal(answer.rcode, 'NOERROR');
    assert.equal(answer.flag_aa, true);
    assert.deepEqual(answer.answers, []);
    assert.deepEqual(other.asked, []);
  });

  it('answers names below a wildcard, and an alias for a name that a search domain made longer', async (t) => {
    const { resolver, port } = await start(t, { search: ['shop.svc.cluster.local', 'cluster.local'] });
    assert.deepEqual(await resolver.resolve4('a.b.wild.example'), ['240.240.0.2']);
    const answer = await ask(port, query('api.example.com.shop.svc.cluster.local'));
    assert.deepEqual(
      answer.answers?.map((record) => [record.type, record.name, 'data' in record ? record.data : '']),
      [
        ['CNAME', 'api.example.com.shop.svc.cluster.local', 'api.example.com'],
        ['A', 'api.example.com', '240.240.0.1'],
      ],
    );
  });

  it('asks the servers of the workload for other names, and for other types of known ones', async (t) => {
    const other = await upstream(t);
    const { resolver, port, server } = await start(t, { servers: [other.port] });
    assert.deepEqual(await resolver.resolve4('elsewhere.example'), ['192.0.2.1']);
    await ask(port, query('api.example.com', 'TXT'));
    assert.deepEqual(other.asked, ['elsewhere.example', 'api.example.com']);
    assert.equal(server.counts.upstreamRequests, 2);
  });

  it('asks the next server when one does not answer, and says SERVFAIL when none does', async (t) => {
    const silent = await upstream(t, () => undefined);
    const other = await upstream(t);
    const both = await start(t, { servers: [silent.port, other.port], timeoutMs: 150 });
    assert.deepEqual(await both.resolver.resolve4('elsewhere.example'), ['192.0.2.1']);
    const none = await start(t, { servers: [silent.port], timeoutMs: 100 });
    assert.equal((await ask(none.port, query('elsewhere.example'))).rcode, 'SERVFAIL');
    assert.equal(none.server.counts.failures, 1);
    const race = await start(t, { servers: [silent.port, other.port], timeoutMs: 1000, parallel: true });
    assert.deepEqual(await race.resolver.resolve4('elsewhere.example'), ['192.0.2.1']);
  });

  it('takes no answer with another id', async (t) => {
    const liar = await upstream(t, (question) => answerAll({ ...question, id: ((question.id ?? 0) + 1) & 0xffff }));
    const { port } = await start(t, { servers: [liar.port], timeoutMs: 100 });
    assert.equal((await ask(port, query('elsewhere.example'))).rcode, 'SERVFAIL');
  });

  it('says SERVFAIL before it has a table', async (t) => {
    const { port, resolver } = await start(t, { table: null });
    const { rcode, questions } = await ask(port, query('cart.shop'));
    assert.equal(rcode, 'SERVFAIL');
    // A resolver takes no answer without its question.
    assert.deepEqual(questions, [{ name: 'cart.shop', type: 'A', class: 'IN' }]);
    await assert.rejects(resolver.resolve4('cart.shop'), { code: 'ESERVFAIL' });
  });

  it('cuts an answer that fits no datagram, gives it whole to EDNS as far as it fits, and whole over TCP', async (t) => {
    const { port } = await start(t);
    const cut = await ask(port, query('big.example'));
    assert.equal(cut.flag_tc, true);
    assert.ok((cut.answers?.length ?? 0) > 10 && (cut.answers?.length ?? 0) < 200);
    const larger = await ask(
      port,
      query('big.example', 'A', {
        additionals: [
          {
            type: 'OPT',
            name: '.',
            udpPayloadSize: 4096,
            extendedRcode: 0,
            ednsVersion: 0,
            flags: 0,
            flag_do: false,
            options: [],
          },
        ],
      }),
    );
    assert.equal(larger.flag_tc, false);
    assert.equal(larger.answers?.length, 200);
    const answers = await overTcp(port, [query('big.example'), query('cart.shop')]);
    assert.deepEqual(
      answers.map((answer) => answer.answers?.length),
      [200, 2],
    );
  });

  it('answers or drops what is no question, and goes on', async (t) => {
    const { port, resolver } = await start(t);
    const socket = createSocket('udp4');
    t.after(() => void socket.close());
    for (let length = 0; length < 40; length++) socket.send(Buffer.alloc(length, 0xc0), port, '127.0.0.1');
    const question = query('cart.shop');
    for (let length = 1; length < question.length; length++)
      socket.send(question.subarray(0, length), port, '127.0.0.1');
    // A name that points at itself.
    socket.send(Buffer.from('12670100000100000000000 0c00c00010001'.replaceAll(' ', ''), 'hex'), port, '127.0.0.1');
    assert.equal(
      (await ask(port, Buffer.concat([question.subarray(0, 12), Buffer.from([0xc0, 0x0c, 0, 1, 0, 1])]))).rcode,
      'FORMERR',
    );
    assert.equal(
      (await ask(port, encode({ type: 'query', id: 1, flags: 0x2000, questions: [{ type: 'A', name: 'a' }] }))).rcode,
      'NOTIMP',
    );
    assert.equal((await resolver.resolve4('cart.shop')).length, 2);
  });

  it('is understood by dig', {
    skip: findProgram('dig') === undefined ? 'dig is not installed: apt-get install dnsutils' : false,
  }, async (t) => {
    const { port } = await start(t);
    const { stdout } = await promisify(execFile)(
      'dig',
      ['@127.0.0.1', '-p', String(port), '+short', 'api.example.com'],
      {
        encoding: 'utf8',
      },
    );
    assert.equal(stdout, '240.240.0.1\n');
  });
});

function overTcp(port: number, messages: readonly Buffer[]): Promise<Answer[]> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1');
    const answers: Answer[] = [];
    let received: Buffer = Buffer.alloc(0);
    socket.on('connect', () => {
      // Both in one segment, the second cut in two.
      const bytes = Buffer.concat(messages.map((message) => framed(message)));
      socket.write(bytes.subarray(0, bytes.length - 3));
      socket.write(bytes.subarray(bytes.length - 3));
    });
    socket.on('error', reject);
    socket.on('data', (bytes: Buffer) => {
      received = Buffer.concat([received, bytes]);
      while (received.length >= 2 && received.length >= received.readUInt16BE(0) + 2) {
        const length = received.readUInt16BE(0);
        answers.push(decode(received.subarray(2, length + 2)));
        received = received.subarray(length + 2);
      }
      if (answers.length === messages.length) {
        socket.destroy();
        resolve(answers);
      }
    });
  });
}

describe('readNameTable', () => {
  it("reads the protobuf's JSON and passes over what is no address", () => {
    const table = readNameTable({
      table: { 'a.example': { ips: ['10.0.0.1', 'x'], registry: 'External', alt_hosts: ['a'] }, b: null },
    });
    assert.deepEqual(table.get('a.example'), {
      ips: ['10.0.0.1'],
      registry: 'External',
      shortname: '',
      namespace: '',
      altHosts: ['a'],
    });
    assert.deepEqual(table.get('b')?.ips, []);
    assert.equal(readNameTable({}).size, 0);
  });
});

describe('readResolvConf', () => {
  it('reads servers and the last search line', () => {
    const conf = readResolvConf(
      '# c\nnameserver 10.96.0.10\nnameserver fd00::a # x\nsearch a.example\nsearch b.example c.example\noptions ndots:5\n',
    );
    assert.deepEqual(
      conf.servers.map(({ ip, port }) => [ip, port]),
      [
        ['10.96.0.10', 53],
        ['fd00::a', 53],
      ],
    );
    assert.deepEqual(conf.search, ['b.example', 'c.example']);
  });
});
