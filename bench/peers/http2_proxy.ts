/** A proxy of http2-proxy, over HTTP/1.1: `http2_proxy.ts PORT UPSTREAM`. */
import { Agent, createServer, type IncomingMessage, request as ask, type ServerResponse } from 'node:http';
import { createRequire } from 'node:module';

const { web } = createRequire(import.meta.url)('http2-proxy') as {
  web(request: IncomingMessage, response: ServerResponse, options: object, done: (error?: Error) => void): void;
};
const [port, upstream] = process.argv.slice(2).map(Number);
const agent = new Agent({ keepAlive: true });
const options = {
  hostname: '127.0.0.1',
  port: upstream,
  onReq: (_request: IncomingMessage, wanted: object) => ask({ ...wanted, agent }),
};
createServer((request, response) => {
  web(request, response, options, (error) => {
    if (error !== undefined && error !== null) response.writeHead(502).end();
  });
}).listen(port, '127.0.0.1');
