/**
 * WasmPlugin and TrafficExtension (extensions.istio.io): code that Envoy would run. Pillion runs none; where one would
 * hold for the workload it is refused, so that a check written in it is never skipped in silence.
 */
import type { KubeObject } from '../kube_object.ts';
import {
  type At,
  anything,
  fail,
  int32,
  list,
  looseText,
  message,
  oneOf,
  openMessage,
  port,
  text,
  within,
} from './shape.ts';
import { checkScope, type PolicyScope, TARGET_REF, TARGET_REFS, WORKLOAD_SELECTOR } from './workload_selector.ts';

const MATCH = list(
  message({
    mode: oneOf('UNDEFINED', 'CLIENT', 'SERVER', 'CLIENT_AND_SERVER'),
    ports: list(message({ number: port })),
  }),
);
const ENVIRONMENT = message({
  env: list(message({ name: text, valueFrom: oneOf('INLINE', 'HOST'), value: looseText })),
});

const SCOPE = { selector: WORKLOAD_SELECTOR, targetRef: TARGET_REF, targetRefs: TARGET_REFS } as const;

const WASM_PLUGIN = message({
  ...SCOPE,
  url: text,
  sha256: text,
  imagePullPolicy: oneOf('UNSPECIFIED_POLICY', 'IfNotPresent', 'Always'),
  imagePullSecret: text,
  verificationKey: text,
  pluginConfig: anything,
  pluginName: text,
  phase: oneOf('UNSPECIFIED_PHASE', 'AUTHN', 'AUTHZ', 'STATS'),
  priority: int32,
  failStrategy: oneOf('FAIL_CLOSE', 'FAIL_OPEN', 'FAIL_RELOAD'),
  vmConfig: ENVIRONMENT,
  match: MATCH,
  type: oneOf('UNSPECIFIED_PLUGIN_TYPE', 'HTTP', 'NETWORK'),
});

const EXTENSION = openMessage(SCOPE);

export interface ForeignCode {
  readonly scope: PolicyScope;
  readonly object: KubeObject;
}

/** @throws {ConfigError} */
export function parseForeignCode(object: KubeObject, at: At): ForeignCode {
  const spec = object.json['spec'];
  const place = within(at, 'spec');
  if (spec === null || spec === undefined) fail(place, 'spec is required');
  if (object.kind !== 'WasmPlugin') {
    const scope = EXTENSION(spec, place);
    checkScope(scope);
    return { scope, object };
  }
  const read = WASM_PLUGIN(spec, place);
  checkScope(read);
  if (read.sha256 !== undefined && !/^([a-f0-9]{64})?$/.test(read.sha256))
    fail(within(read.at, 'sha256'), `64 hexadecimal digits are wanted, got "${read.sha256}"`);
  for (const name of ['imagePullSecret', 'pluginName'] as const) {
    if (read[name] === '') fail(within(read.at, name), 'it must not be empty; leave it out');
  }
  for (const ports of (read.match ?? []).flatMap((match) => match.ports ?? [])) {
    if (ports.number === undefined) fail(within(ports.at, 'number'), 'number is required');
  }
  const names = new Set<string>();
  for (const { name = '', valueFrom, value, at: entry } of read.vmConfig?.env ?? []) {
    if (name === '') fail(within(entry, 'name'), 'a name is required');
    if (names.has(name)) fail(within(entry, 'name'), `the variable "${name}" is there twice`);
    if (valueFrom === 'HOST' && value !== undefined)
      fail(within(entry, 'value'), 'value may only be set when valueFrom is INLINE');
    names.add(name);
  }
  checkUrl(read.url, read.at);
  for (const [name, value] of read.selector?.matchLabels ?? []) {
    if (name.includes('*') || value.includes('*'))
      fail(within(read.at, 'selector', 'matchLabels', name), 'a wildcard is not supported in a selector');
  }
  return { scope: read, object };
}

function checkUrl(url: string | undefined, at: At): void {
  const place = within(at, 'url');
  if (url === undefined || url === '') fail(place, 'url is required');
  // Without a scheme it is an image.
  const scheme = /^([A-Za-z][A-Za-z0-9+.-]*):\/\//.exec(url)?.[1];
  const known = scheme === undefined ? /^[A-Za-z0-9]/.test(url) : ['oci', 'http', 'https', 'file'].includes(scheme);
  if (!known) fail(place, `an oci, http, https or file URL is wanted, got "${url}"`);
}
