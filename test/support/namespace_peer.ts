/**
 * A client or server of bare TCP as a program of its own, for tests in network namespaces. Prints what happens:
 *
 *   serve ADDRESS PORT NAME   says `NAME hello` to each connection at once, then echoes lines as `NAME PEER: line`
 *   h1, h2 ADDRESS PORT       answers each request with its version and path
 *   ask ADDRESS PORT [LINE]   prints what comes; with LINE sends it first; ends after two lines (one without LINE)
 */
import { createServer as createHttp1Server } from 'node:http';
import { createServer as createHttp2Server } from 'node:http2';
import { connect, createServer } from 'node:net';

const [mode, address = '', port = '0', text] = process.argv.slice(2);

if (mode === 'serve') {
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.write(`${text} hello\n`);
    socket.on('data', (bytes) => socket.write(`${text} ${socket.remoteAddress}: ${bytes}`));
  });
  server.listen({ host: address, port: Number(port) }, () => console.log('serving'));
} else if (mode === 'h1' || mode === 'h2') {
  const server =
    mode === 'h1'
      ? createHttp1Server((request, response) => response.end(`HTTP/${request.httpVersion} ${request.url}`))
      : createHttp2Server((request, response) => response.end(`HTTP/2 ${request.url}`));
  server.listen({ host: address, port: Number(port) }, () => console.log('serving'));
} else {
  const socket = connect({ host: address, port: Number(port) });
  let received = '';
  socket.setEncoding('utf8');
  socket.on('connect', () => {
    if (text !== undefined) socket.write(`${text}\n`);
  });
  socket.on('data', (piece: string) => {
    received += piece;
    if (received.split('\n').length > (text === undefined ? 1 : 2)) socket.end();
  });
  socket.on('error', (error: NodeJS.ErrnoException) => console.log(`error ${error.code}`));
  socket.on('close', () => console.log(received === '' ? 'closed without a word' : received));
}
