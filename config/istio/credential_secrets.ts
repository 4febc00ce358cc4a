/** Kubernetes Secrets that a DestinationRule names (`credentialName`), as Envoy secrets. Source: istio/istio pilot/pkg/credentials/kube. */
import { createHash } from 'node:crypto';
import { ConfigError } from '../../proxy/config_error.ts';
import type { KubeObject } from '../kube_object.ts';
import type { Json, Resource } from '../resources.ts';
import { originOf } from './envoy_json.ts';

const PREFIX = 'kubernetes://';
const AUTHORITY = '-cacert';

/** Those that clusters ask for and the client's namespace has. @throws {ConfigError} never quoting what a Secret holds */
export function credentialSecrets(
  resources: readonly Resource[],
  objects: readonly KubeObject[],
  namespace: string,
): Resource[] {
  const secrets = new Map(
    objects
      .filter((object) => isSecret(object) && object.namespace === namespace)
      .map((object) => [object.name, object]),
  );
  if (secrets.size === 0) return [];
  const wanted = new Set<string>();
  for (const { type, json } of resources) if (type === 'cluster') collect(json, wanted);
  return [...wanted].flatMap((name) => {
    const credential = name.slice(PREFIX.length);
    const authority = credential.endsWith(AUTHORITY);
    const object =
      secrets.get(credential) ?? (authority ? secrets.get(credential.slice(0, -AUTHORITY.length)) : undefined);
    if (object === undefined) return [];
    return [authority ? authoritySecret(name, object) : certificateSecret(name, object)];
  });
}

function isSecret({ apiVersion, kind }: KubeObject): boolean {
  return kind === 'Secret' && apiVersion === 'v1';
}

function collect(value: unknown, wanted: Set<string>): void {
  if (Array.isArray(value)) for (const item of value) collect(item, wanted);
  else if (value !== null && typeof value === 'object') {
    const { name, sds_config: source } = value as Json;
    if (source !== undefined && typeof name === 'string' && name.startsWith(PREFIX)) wanted.add(name);
    for (const item of Object.values(value)) if (item !== null && typeof item === 'object') collect(item, wanted);
  }
}

function certificateSecret(name: string, object: KubeObject): Resource {
  const chain = entry(object, 'tls.crt', 'cert');
  const key = entry(object, 'tls.key', 'key');
  return secret(name, object, chain, {
    tls_certificate: { certificate_chain: { inline_string: chain }, private_key: { inline_string: key } },
  });
}

function authoritySecret(name: string, object: KubeObject): Resource {
  const roots = entry(object, 'ca.crt', 'cacert');
  return secret(name, object, roots, { validation_context: { trusted_ca: { inline_string: roots } } });
}

/** The version is that of the certificates: nobody learns of a key from it. */
function secret(name: string, object: KubeObject, certificates: string, json: Json): Resource {
  const version = createHash('sha256').update(certificates).digest('hex').slice(0, 16);
  return { type: 'secret', name, version, json: { name, ...json }, origin: originOf(object) };
}

/** Out of `data` (base64) or `stringData`, under either of the names that Istio knows. */
function entry(object: KubeObject, ...names: readonly string[]): string {
  for (const [field, decode] of [
    ['stringData', (text: string) => text],
    ['data', (text: string) => Buffer.from(text, 'base64').toString('latin1')],
  ] as const) {
    const map = object.json[field];
    if (map === null || typeof map !== 'object') continue;
    for (const name of names) {
      const value = (map as Json)[name];
      if (typeof value === 'string') return decode(value);
    }
  }
  const origin = originOf(object);
  throw new ConfigError('', `Cannot use Secret "${object.name}" (${origin}): it has no ${names.join(' or ')}`, {
    origin,
  });
}
