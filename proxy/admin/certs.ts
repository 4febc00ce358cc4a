/** /certs: every certificate that the configuration names, and when the first one ends. envoy.admin.v3.Certificates. */
import { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type { Json } from '../../config/resources.ts';
import type { HeldResource } from '../held_resource.ts';
import { Slices } from '../telemetry/slices.ts';
import { joined, writeJson } from './json_writer.ts';
import type { AdminEndpoint } from './state.ts';

const DAY_MS = 86_400_000;
/** Of one PEM text: a trust bundle may hold a few hundred. */
const MAX_CERTIFICATES = 1000;

interface Source {
  /** A file, or `<inline>`. */
  readonly path: string;
  readonly pem: string;
}

export const certs: AdminEndpoint = {
  path: '/certs',
  help: 'print certs on machine',
  mutates: false,
  answer(state) {
    return { status: 200, type: 'application/json', body: joined(written(state.resources())) };
  },
};

/** envoy.admin.v3.Certificates, bundle by bundle. */
async function* written(resources: Iterable<HeldResource>): AsyncGenerator<string> {
  const slices = new Slices();
  let separator = '{\n "certificates": [\n';
  for await (const { chain, authority } of bundles(resources)) {
    const pair = { ca_cert: details(await load(authority)), cert_chain: details(await load(chain)) };
    if (pair.ca_cert.length + pair.cert_chain.length === 0) continue;
    yield separator;
    yield* writeJson(pair, 2, slices);
    separator = ',\n';
  }
  yield separator === ',\n' ? '\n ]\n}\n' : '{\n "certificates": []\n}\n';
}

/** Whole days until the first certificate ends; undefined: there is none. */
export async function daysUntilFirstExpiry(resources: Iterable<HeldResource>): Promise<number | undefined> {
  let first: number | undefined;
  for await (const { chain, authority } of bundles(resources)) {
    for (const source of [chain, authority]) {
      for (const certificate of parse((await load(source))?.pem ?? '')) {
        const endMs = certificate.validToDate.getTime();
        if (first === undefined || endMs < first) first = endMs;
      }
    }
  }
  return first === undefined ? undefined : Math.max(0, Math.floor((first - Date.now()) / DAY_MS));
}

interface Bundle {
  readonly chain: Json | undefined;
  readonly authority: Json | undefined;
}

/** Certificates stand in secrets and in TLS contexts, wherever these stand. */
async function* bundles(resources: Iterable<HeldResource>): AsyncGenerator<Bundle> {
  const slices = new Slices();
  for (const resource of resources) {
    if (resource.type === 'endpoint' || resource.type === 'route' || !mayHold(resource)) continue;
    const found: Bundle[] = [];
    collect(resource.json, found);
    yield* found;
    if (slices.over) await slices.next();
  }
}

/** Whether one of the names is there at all: finding that out costs a hundredth of decoding. */
function mayHold(resource: HeldResource): boolean {
  const bytes = resource.packed?.bytes;
  return bytes === undefined || bytes.includes('"certificate_chain"') || bytes.includes('"trusted_ca"');
}

function collect(value: unknown, found: Bundle[]): void {
  if (Array.isArray(value)) {
    for (const item of value) collect(item, found);
    return;
  }
  if (value === null || typeof value !== 'object') return;
  const object = value as Json;
  const chain = object['certificate_chain'] as Json | undefined;
  const authority = object['trusted_ca'] as Json | undefined;
  if (chain !== undefined || authority !== undefined) found.push({ chain, authority });
  else for (const item of Object.values(object)) if (item !== null && typeof item === 'object') collect(item, found);
}

/** envoy.config.core.v3.DataSource. What cannot be read is left out: the TLS context complains about it. */
async function load(source: Json | undefined): Promise<Source | undefined> {
  if (source === undefined) return undefined;
  const { filename, inline_string: text, inline_bytes: bytes, environment_variable: variable } = source;
  if (typeof text === 'string') return { path: '<inline>', pem: text };
  if (typeof bytes === 'string') return { path: '<inline>', pem: Buffer.from(bytes, 'base64').toString('latin1') };
  if (typeof variable === 'string') return { path: '<inline>', pem: process.env[variable] ?? '' };
  if (typeof filename !== 'string') return undefined;
  try {
    return { path: filename, pem: await readFile(filename, 'latin1') };
  } catch {
    return undefined;
  }
}

function parse(pem: string): X509Certificate[] {
  const blocks = pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
  return blocks.slice(0, MAX_CERTIFICATES).flatMap((block) => {
    try {
      return [new X509Certificate(block)];
    } catch {
      return [];
    }
  });
}

function details(source: Source | undefined): object[] {
  if (source === undefined) return [];
  return parse(source.pem).map((certificate) => ({
    path: source.path,
    serial_number: certificate.serialNumber.toLowerCase(),
    subject_alt_names: alternativeNames(certificate.subjectAltName ?? ''),
    days_until_expiration: String(Math.max(0, Math.floor((certificate.validToDate.getTime() - Date.now()) / DAY_MS))),
    valid_from: certificate.validFromDate.toISOString().replace('.000Z', 'Z'),
    expiration_time: certificate.validToDate.toISOString().replace('.000Z', 'Z'),
  }));
}

const KINDS: Readonly<Record<string, string>> = { DNS: 'dns', URI: 'uri', 'IP Address': 'ip_address' };

/** Node writes `DNS:a, URI:"b"`; what needs quoting is quoted as JSON. */
function alternativeNames(text: string): object[] {
  const names: object[] = [];
  for (const [, kind, quoted, plain] of text.matchAll(/([A-Za-z ]+):(?:("(?:[^"\\]|\\.)*")|([^,]*))(?:, |$)/g)) {
    const field = KINDS[kind as string];
    if (field === undefined) continue;
    names.push({ [field]: quoted === undefined ? plain : (JSON.parse(quoted) as string) });
  }
  return names;
}
