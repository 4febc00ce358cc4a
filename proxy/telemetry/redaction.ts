/** What must not be read in a dump, a log or an error: keys, passwords, tokens (attacks.md row 61). */

export const REDACTED = '[redacted]';
const REDACTED_BYTES = Buffer.from(REDACTED).toString('base64');

/** Fields that Envoy's protos mark as sensitive: every text below them goes. */
const SENSITIVE_FIELDS = new Set([
  'private_key',
  'private_key_provider',
  'password',
  'pkcs12',
  'session_ticket_keys',
  'generic_secret',
  'token_secret',
  'hmac_secret',
  'inline_key',
  'access_token',
  'secret_access_key',
  'session_token',
]);
/** Header values that name who may do something. */
const SENSITIVE_HEADERS = new Set([
  'authorization',
  'proxy-authorization',
  'cookie',
  'set-cookie',
  'x-api-key',
  'x-envoy-auth-token',
]);

/** A copy of protobuf JSON without secrets; what holds none is the same object. */
export function redactJson(value: unknown): unknown {
  if (typeof value === 'string') return redactText(value);
  if (Array.isArray(value)) return mapped(value, redactJson);
  if (value === null || typeof value !== 'object') return value;
  const object = value as Readonly<Record<string, unknown>>;
  let copy: Record<string, unknown> | undefined;
  const header = headerName(object);
  for (const key in object) {
    const before = object[key];
    const after =
      SENSITIVE_FIELDS.has(key) || (header && isHeaderValue(key)) ? redactSecret(key, before) : redactJson(before);
    if (after === before) continue;
    copy ??= { ...object };
    copy[key] = after;
  }
  return copy ?? value;
}

/** Whether a field of `object` is a secret by its name, whatever stands in it: see redactSecret. */
export function isSecretField(object: Readonly<Record<string, unknown>>, key: string): boolean {
  return SENSITIVE_FIELDS.has(key) || (isHeaderValue(key) && headerName(object));
}

function isHeaderValue(key: string): boolean {
  return key === 'value' || key === 'raw_value';
}

function headerName(object: Readonly<Record<string, unknown>>): boolean {
  const key = object['key'];
  return typeof key === 'string' && SENSITIVE_HEADERS.has(key.toLowerCase());
}

/** The value of such a field, with every text in it gone but where it lies and what it is called. */
export function redactSecret(key: string, value: unknown): unknown {
  if (typeof value === 'string') return key.endsWith('_bytes') || key === 'raw_value' ? REDACTED_BYTES : REDACTED;
  if (Array.isArray(value)) return value.map((item) => redactSecret(key, item));
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(
    // Where a key lies is no secret, and what it is called is how people find it.
    Object.entries(value).map(([name, item]) => [
      name,
      name === 'filename' || name === 'name' || name === '@type' ? item : redactSecret(name, item),
    ]),
  );
}

function mapped(list: readonly unknown[], change: (item: unknown) => unknown): readonly unknown[] {
  let copy: unknown[] | undefined;
  list.forEach((item, index) => {
    const after = change(item);
    if (after === item) return;
    copy ??= [...list];
    copy[index] = after;
  });
  return copy ?? list;
}

const PEM_KEY = /-----BEGIN ([A-Z ]*PRIVATE KEY)-----[\s\S]*?(?:-----END \1-----|$)/g;
const USER_INFO = /\b([a-z][a-z0-9+.-]{1,30}:\/\/)[^\s/@:]{1,256}:[^\s/@]{1,256}@/gi;
const CREDENTIALS =
  /\b((?:proxy-)?authorization|(?:set-)?cookie|x-api-key)(["']?\s*[:=]\s*["']?)(?:(bearer|basic|digest|negotiate)\s+)?[^"'\r\n]+/gi;
const BEARER = /\b(bearer|basic)\s+[a-z0-9+/_=.~-]{8,}/gi;
const TOKEN = /\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*/g;
/** One of these is in every text that one of the patterns would change. */
const MAYBE = /PRIVATE KEY|:\/\/[^\s/]*@|authorization|cookie|api-key|bearer|basic |eyJ/i;

/** The same text without keys, tokens, credentials in URLs and in header lines. */
export function redactText(text: string): string {
  if (!MAYBE.test(text)) return text;
  return text
    .replace(PEM_KEY, REDACTED)
    .replace(USER_INFO, `$1${REDACTED}@`)
    .replace(CREDENTIALS, (_, name: string, between: string, scheme: string | undefined) => {
      return `${name}${between}${scheme === undefined ? '' : `${scheme} `}${REDACTED}`;
    })
    .replace(BEARER, `$1 ${REDACTED}`)
    .replace(TOKEN, REDACTED);
}
