/** Every admin endpoint, by path. */
import { certs } from './certs.ts';
import { clusters, listeners } from './clusters.ts';
import { configDump } from './config_dump.ts';
import { logging } from './logging.ts';
import { profilerEndpoints } from './profilers.ts';
import { serverEndpoints } from './server_endpoints.ts';
import type { AdminEndpoint } from './state.ts';
import { statsEndpoints } from './stats.ts';

export const ENDPOINTS: readonly AdminEndpoint[] = [
  certs,
  clusters,
  configDump,
  listeners,
  logging,
  ...profilerEndpoints,
  ...serverEndpoints,
  ...statsEndpoints,
].sort((a, b) => (a.path < b.path ? -1 : 1));
