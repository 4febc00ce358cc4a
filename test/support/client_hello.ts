/** ClientHellos for tests: made byte by byte, or taken from a real client. */
import { connect } from 'node:tls';
import { createServer } from 'node:net';
import { once } from 'node:events';

export interface HelloOptions {
  readonly serverName?: string;
  readonly applicationProtocols?: readonly string[];
  /** Type and body, put in as they stand, before the others. */
  readonly extensions?: readonly (readonly [type: number, body: Buffer])[];
  /** How many bytes of the message a record holds. */
  readonly recordBytes?: number;
  readonly noExtensions?: boolean;
  /** Default 0x0303. */
  readonly version?: number;
  /** Default: one of GREASE (browsers begin with it) and two others. */
  readonly suites?: readonly number[];
}

const vector = (size: 1 | 2 | 3, ...parts: readonly Buffer[]): Buffer => {
  const body = Buffer.concat(parts);
  const length = Buffer.alloc(size);
  length.writeUIntBE(body.length, 0, size);
  return Buffer.concat([length, body]);
};
const number = (value: number): Buffer => Buffer.from([value >> 8, value & 255]);

/** The message without records. */
export function helloMessage({
  serverName,
  applicationProtocols,
  extensions = [],
  noExtensions,
  version = 0x0303,
  suites = [0x2a2a, 0x1301, 0xc02b],
}: HelloOptions): Buffer {
  const all = [...extensions];
  if (serverName !== undefined)
    all.push([0, vector(2, Buffer.from([0]), vector(2, Buffer.from(serverName, 'latin1')))]);
  if (applicationProtocols !== undefined)
    all.push([16, vector(2, ...applicationProtocols.map((name) => vector(1, Buffer.from(name, 'latin1'))))]);
  const body = [
    number(version),
    Buffer.alloc(32, 7),
    vector(1, Buffer.alloc(32, 9)),
    vector(2, ...suites.map(number)),
    vector(1, Buffer.from([0])),
  ];
  if (noExtensions !== true)
    body.push(vector(2, ...all.map(([type, data]) => Buffer.concat([number(type), vector(2, data)]))));
  return Buffer.concat([Buffer.from([1]), vector(3, ...body)]);
}

/** In records of the given size. */
export function records(message: Buffer, recordBytes = 16_384): Buffer {
  const out: Buffer[] = [];
  for (let at = 0; at < message.length; at += recordBytes) {
    out.push(Buffer.from([22, 3, 1]), vector(2, message.subarray(at, at + recordBytes)));
  }
  return Buffer.concat(out);
}

export function clientHello(options: HelloOptions): Buffer {
  return records(helloMessage(options), options.recordBytes);
}

/** What OpenSSL sends first. */
export async function opensslHello(options: {
  readonly servername?: string;
  readonly ALPNProtocols?: readonly string[];
  readonly minVersion?: 'TLSv1.2' | 'TLSv1.3';
  readonly maxVersion?: 'TLSv1.2' | 'TLSv1.3';
}): Promise<Buffer> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  const { ALPNProtocols, ...rest } = options;
  const alpn = ALPNProtocols === undefined ? {} : { ALPNProtocols: [...ALPNProtocols] };
  const client = connect({ port, host: '127.0.0.1', rejectUnauthorized: false, ...rest, ...alpn });
  client.on('error', () => {});
  const [socket] = await once(server, 'connection');
  const pieces: Buffer[] = [];
  for await (const piece of socket as AsyncIterable<Buffer>) {
    pieces.push(piece);
    const all = Buffer.concat(pieces);
    if (all.length >= 5 && all.length >= 5 + all.readUInt16BE(3)) break;
  }
  client.destroy();
  server.close();
  return Buffer.concat(pieces);
}
