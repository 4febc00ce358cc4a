/** Route tables of 10 and 10,000 routes: the first, the last, none. */
import { buildRouteTable } from '../../config/build/route_configuration.ts';
import type { Json } from '../../config/resources.ts';
import { RequestHeaders } from '../../proxy/http/headers.ts';
import { SocketInfo } from '../../proxy/net/acceptor.ts';
import { StreamInfo } from '../../proxy/http/stream_info.ts';
import { socketAddress } from '../../proxy/net/connection_info.ts';
import { routeMatch } from '../bootstrap.ts';
import { bench } from './harness.ts';

const address = socketAddress('127.0.0.1', 80);
const context = { info: new StreamInfo(new SocketInfo(address, address, 0), 0, 0), randomValue: 0.5 };

for (const count of [10, 10_000]) {
  const routes = Array.from(
    { length: count },
    (_, index): Json => ({
      match: routeMatch(index, count),
      route: { cluster: 'a' },
    }),
  );
  const table = buildRouteTable(
    { name: 'bench', virtual_hosts: [{ name: 'all', domains: ['*'], routes }] },
    { origin: 'bench', filterConfig: (_name, config) => ({ disabled: false, config }) },
  );
  for (const [says, path] of [
    ['the first', '/exact-0'],
    ['the last', `/prefix-${count - 1}/x`],
    ['none', '/nothing/like/it'],
  ] as const) {
    const request = new RequestHeaders();
    request.path = path;
    request.authority = 'bench';
    bench(`${count} routes, ${says} matches`, () => table.match(request, context));
  }
}
