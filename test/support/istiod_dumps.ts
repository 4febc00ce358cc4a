/** What a real istiod pushed (../shared/data/istiod-xds), made ready for a proxy of a test: free ports, secrets. */
import { existsSync, globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Json } from '../../config/resources.ts';
import { MeshCa } from './mesh_ca.ts';

export const DUMPS = fileURLToPath(new URL('../../../shared/data/istiod-xds', import.meta.url));
export const skipWithoutDumps = existsSync(DUMPS)
  ? false
  : 'the dumps of ../shared/data/istiod-xds are not on this machine';

export interface Dump {
  /** `bookinfo/productpage-v1-0`. */
  readonly name: string;
  readonly clusters: readonly Json[];
  readonly endpoints: readonly Json[];
  readonly listeners: readonly Json[];
  readonly routes: readonly Json[];
}

export function dumpNames(): string[] {
  return skipWithoutDumps === false
    ? globSync('*/*.xds.json', { cwd: DUMPS })
        .sort()
        .map((file) => file.replace(/\.xds\.json$/, ''))
    : [];
}

export function readDump(name: string): Dump {
  const lists = JSON.parse(readFileSync(join(DUMPS, `${name}.xds.json`), 'utf8')) as Omit<Dump, 'name'>;
  return { ...lists, name, listeners: lists.listeners.map(onFreePort) };
}

/** 15001 and 15006 are taken where tests run side by side. */
function onFreePort(listener: Json): Json {
  if (listener['bind_to_port'] === false) return listener;
  return { ...listener, address: { socket_address: { address: '127.0.0.1', port_value: 0 } } };
}

/** What istiod's dumps lack: `default`, `ROOTCA`, and the files of DestinationRules as pilot-agent names them. */
export function meshSecrets(ca = new MeshCa(), uri = 'spiffe://cluster.local/ns/default/sa/default'): Json[] {
  const { chain, key } = ca.issue(uri);
  const own = { certificate_chain: { inline_string: chain }, private_key: { inline_string: key } };
  const roots = { trusted_ca: { inline_string: ca.pem } };
  return [
    { name: 'default', tls_certificate: own },
    { name: 'ROOTCA', validation_context: roots },
    { name: 'file-cert:/etc/c.pem~/etc/k.pem', tls_certificate: own },
    { name: 'file-root:/etc/ca.pem', validation_context: roots },
  ];
}
