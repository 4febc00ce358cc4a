/** node:http in, undici out: `node_undici.ts PORT UPSTREAM`. */
import { createServer } from 'node:http';
import { Pool } from 'undici';

const [port, upstream] = process.argv.slice(2).map(Number);
const pool = new Pool(`http://127.0.0.1:${upstream}`, { connections: 256 });
createServer((request, response) => {
  const { connection: _, 'transfer-encoding': __, ...headers } = request.headers;
  pool
    .stream(
      {
        path: request.url ?? '/',
        method: (request.method ?? 'GET') as 'GET',
        headers,
        body: request.method === 'GET' || request.method === 'HEAD' ? null : request,
      },
      ({ statusCode, headers }) => {
        response.writeHead(statusCode, headers as Record<string, string>);
        return response;
      },
    )
    .catch(() => response.destroy());
}).listen(port, '127.0.0.1');
