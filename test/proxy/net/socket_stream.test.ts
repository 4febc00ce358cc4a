import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { after, before, test } from 'node:test';
import { Acceptor } from '../../../proxy/net/acceptor.ts';
import { socketAddress } from '../../../proxy/net/connection_info.ts';
import { openConnection } from '../../../proxy/net/connector.ts';
import { asOneEvent, poisonReadBuffers, type SocketStream } from '../../../proxy/net/socket_stream.ts';
import { REFUSED_PORT } from '../../support/free_port.ts';

before(() => poisonReadBuffers(true));
after(() => poisonReadBuffers(false));

const nowMs = (): number => performance.now();

/** An acceptor on a free port whose connections go to `onConnection`. */
async function accept(onConnection: (stream: SocketStream) => void): Promise<{ acceptor: Acceptor; port: number }> {
  const acceptor = new Acceptor({
    listen: { host: '127.0.0.1', port: 0 },
    address: socketAddress('127.0.0.1', 0),
    nowMs,
    onConnection,
    onError: (error) => assert.fail(error),
  });
  await acceptor.whenListening();
  return { acceptor, port: acceptor.port };
}

test('SocketStream knows both addresses when a connection is accepted', async () => {
  const accepted = Promise.withResolvers<SocketStream>();
  const { acceptor, port } = await accept((stream) => accepted.resolve(stream));
  const client = connect(port, '127.0.0.1');
  const stream = await accepted.promise;
  assert.equal(stream.info.localAddress.text, `127.0.0.1:${port}`);
  assert.equal(stream.info.remoteAddress.text, `127.0.0.1:${client.localPort}`);
  stream.close('flush');
  await once(client, 'close');
  acceptor.close();
});

test('SocketStream sends what one event wrote as one segment, in order', async () => {
  const { acceptor, port } = await accept((stream) => {
    stream.onData = () => {
      stream.write('a');
      stream.write(Buffer.from('b'));
      stream.write('c');
    };
    stream.onEnd = () => stream.close('flush');
  });
  const client = connect(port, '127.0.0.1');
  client.write('go');
  const [chunk] = (await once(client, 'data')) as [Buffer];
  assert.equal(chunk.toString(), 'abc');
  client.end();
  await once(client, 'close');
  acceptor.close();
});

test('SocketStream relays 20 MB unchanged to a slow reader when read buffers are reused', async () => {
  const size = 20_000_000;
  const sent = createHash('sha256');
  const received = createHash('sha256');
  const block = Buffer.alloc(100_003);
  const source = createServer((socket) => {
    let left = size;
    let seed = 1;
    const more = (): void => {
      while (left > 0) {
        const bytes = Buffer.from(block.subarray(0, Math.min(left, block.length)));
        for (let i = 0; i < bytes.length; i += 97) bytes[i] = seed = (seed * 1103515245 + 12345) & 0xff;
        sent.update(bytes);
        left -= bytes.length;
        if (!socket.write(bytes)) {
          socket.once('drain', more);
          return;
        }
      }
      socket.end();
    };
    more();
  });
  source.listen(0, '127.0.0.1');
  await once(source, 'listening');
  const sourcePort = (source.address() as { port: number }).port;
  const waited = Promise.withResolvers<void>();
  const { acceptor, port } = await accept((downstream) => {
    openConnection({
      address: socketAddress('127.0.0.1', sourcePort),
      socket: { sourceIps: [], keepAlive: undefined },
      nowMs,
      onFailed: (message) => assert.fail(message),
      onConnected: (upstream) => {
        upstream.onData = (bytes) => {
          if (downstream.write(bytes)) return;
          waited.resolve();
          upstream.readDisable(true);
          downstream.onDrain = () => {
            downstream.onDrain = () => {};
            upstream.readDisable(false);
          };
        };
        upstream.onEnd = () => {
          downstream.endWrite();
          upstream.close('flush');
        };
      },
    });
  });
  const client = connect(port, '127.0.0.1');
  let total = 0;
  let turns = 0;
  // Reads nothing before the relay was told to wait once: then its buffers are full for certain.
  client.pause();
  void waited.promise.then(() => client.resume());
  client.on('data', (bytes: Buffer) => {
    received.update(bytes);
    total += bytes.length;
    if (++turns % 8 === 0) {
      client.pause();
      setImmediate(() => client.resume());
    }
  });
  await once(client, 'end');
  assert.equal(total, size);
  assert.equal(received.digest('hex'), sent.digest('hex'));
  client.destroy();
  acceptor.close();
  source.close();
});

test('SocketStream keeps reading off until every holder has let go', async () => {
  const accepted = Promise.withResolvers<SocketStream>();
  const { acceptor, port } = await accept((stream) => accepted.resolve(stream));
  const client: Socket = connect(port, '127.0.0.1');
  const stream = await accepted.promise;
  const got = Promise.withResolvers<string>();
  let holders = 2;
  stream.onData = (bytes) => {
    assert.equal(holders, 0);
    got.resolve(bytes.toString());
  };
  stream.readDisable(true);
  stream.readDisable(true);
  client.write('late');
  await new Promise((resolve) => setImmediate(resolve));
  holders = 1;
  stream.readDisable(false);
  await new Promise((resolve) => setImmediate(resolve));
  holders = 0;
  stream.readDisable(false);
  assert.equal(await got.promise, 'late');
  stream.close('reset');
  await once(client, 'close').catch(() => {});
  acceptor.close();
});

test('SocketStream tells the peer of a reset and calls onClose once when it is reset', async () => {
  const accepted = Promise.withResolvers<SocketStream>();
  const { acceptor, port } = await accept((stream) => accepted.resolve(stream));
  const client = connect(port, '127.0.0.1');
  const stream = await accepted.promise;
  let closed = 0;
  const gone = new Promise<void>((resolve) => {
    stream.onClose = () => {
      closed++;
      resolve();
    };
  });
  const failed = once(client, 'error');
  asOneEvent(() => stream.close('reset'));
  const [error] = (await failed) as [NodeJS.ErrnoException];
  assert.equal(error.code, 'ECONNRESET');
  await gone;
  stream.close('flush');
  assert.equal(closed, 1);
  acceptor.close();
});

test('openConnection says why when nobody listens', async () => {
  const failed = Promise.withResolvers<string>();
  openConnection({
    address: socketAddress('127.0.0.1', REFUSED_PORT),
    socket: { sourceIps: [], keepAlive: undefined },
    nowMs,
    onFailed: failed.resolve,
    onConnected: () => assert.fail('must not connect'),
  });
  assert.equal(await failed.promise, 'delayed connect error: Connection refused');
});
