/** TLS servers and clients by node:tls, for tests: strangers to our own TLS. */
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { connect, type ConnectionOptions, createServer, type Server, type TlsOptions, type TLSSocket } from 'node:tls';
import type { Scope } from './scope.ts';

export interface TlsUpstream {
  readonly port: number;
  readonly server: Server;
  /** Of each connection that came through the handshake, in order. */
  readonly seen: {
    readonly alpn: string | false | null;
    readonly servername: string | false | null;
    readonly resumed: boolean;
    readonly peer: string;
  }[];
  /** Errors of handshakes. */
  readonly refused: string[];
}

/** Answers every request head with 200 and the head's first line. */
export async function startTlsUpstream(t: Scope, options: TlsOptions): Promise<TlsUpstream> {
  const seen: TlsUpstream['seen'][number][] = [];
  const refused: string[] = [];
  const sockets = new Set<TLSSocket>();
  const server = createServer(options, (socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.once('close', () => sockets.delete(socket));
    seen.push({
      alpn: socket.alpnProtocol,
      servername: (socket as TLSSocket & { servername?: string | false | null }).servername ?? null,
      resumed: socket.isSessionReused(),
      peer: socket.getPeerX509Certificate()?.subjectAltName ?? '',
    });
    let head = '';
    socket.on('data', (bytes: Buffer) => {
      head += bytes.toString('latin1');
      for (let end = head.indexOf('\r\n\r\n'); end >= 0; end = head.indexOf('\r\n\r\n')) {
        const line = head.slice(0, head.indexOf('\r\n'));
        head = head.slice(end + 4);
        socket.write(`HTTP/1.1 200 OK\r\ncontent-length: ${line.length}\r\n\r\n${line}`);
      }
    });
  });
  server.on('tlsClientError', (error: NodeJS.ErrnoException) => refused.push(error.code ?? error.message));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { port: (server.address() as AddressInfo).port, server, seen, refused };
}

export interface TlsAnswer {
  /** Everything that came; empty where the connection was refused. */
  readonly text: string;
  readonly error: string | undefined;
  readonly alpn: string | false | null;
  readonly resumed: boolean;
  readonly session: Buffer | undefined;
}

/** Connects, sends `request`, and reads until the answer has `until` or the end has come. */
export function askOverTls(
  port: number,
  options: ConnectionOptions,
  request = 'GET / HTTP/1.1\r\nhost: a.example\r\n\r\n',
  until = '\r\n\r\n',
): Promise<TlsAnswer> {
  return new Promise((resolve) => {
    let text = '';
    let error: string | undefined;
    let session: Buffer | undefined;
    const socket = connect({ host: '127.0.0.1', port, rejectUnauthorized: false, ...options });
    const end = (): void => {
      clearTimeout(timer);
      resolve({ text, error, alpn: socket.alpnProtocol, resumed: socket.isSessionReused(), session });
      socket.destroy();
    };
    const timer = setTimeout(() => {
      error ??= 'no answer within 30 s';
      end();
    }, 30_000);
    socket.on('session', (made: Buffer) => {
      session = made;
    });
    socket.on('secureConnect', () => socket.write(request, 'latin1'));
    socket.on('data', (bytes: Buffer) => {
      text += bytes.toString('latin1');
      if (text.includes(until)) end();
    });
    socket.on('error', (failure: NodeJS.ErrnoException) => {
      error ??= failure.code ?? failure.message;
    });
    socket.on('close', () => {
      if (text === '') error ??= 'closed';
      end();
    });
  });
}
