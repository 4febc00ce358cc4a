/** A token taken apart: header, claims and what is wrong with their form. Source: RFC 7515, RFC 7519; messages as Envoy's. */

/** Why a token is not accepted; the text is the response's body. */
export const JWT_STATUS = {
  ok: 'OK',
  missing: 'Jwt is missing',
  badFormat: 'Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections',
  headerBase64: 'Jwt header is an invalid Base64url encoded',
  headerJson: 'Jwt header is an invalid JSON',
  headerAlg: 'Jwt header [alg] field is required and must be a string',
  algUnsupported: 'Jwt header [alg] is not supported',
  headerKid: 'Jwt header [kid] field is not a string',
  payloadBase64: 'Jwt payload is an invalid Base64url encoded',
  payloadJson: 'Jwt payload is an invalid JSON',
  issNotString: 'Jwt payload [iss] field is not a string',
  subNotString: 'Jwt payload [sub] field is not a string',
  iatNotInteger: 'Jwt payload [iat] field is not an integer',
  nbfNotInteger: 'Jwt payload [nbf] field is not an integer',
  expNotInteger: 'Jwt payload [exp] field is not an integer',
  jtiNotString: 'Jwt payload [jti] field is not a string',
  audNotString: 'Jwt payload [aud] field is not a string or string list',
  signatureBase64: 'Jwt signature is an invalid Base64url encoded',
  notYetValid: 'Jwt not yet valid',
  expired: 'Jwt is expired',
  unknownIssuer: 'Jwt issuer is not configured',
  audienceNotAllowed: 'Audiences in Jwt are not allowed',
  verificationFails: 'Jwt verification fails',
  noKey: "Jwks doesn't have key to match kid or alg from Jwt",
  noKeys: "Jwks doesn't have any valid public key",
  fetchFailed: 'Jwks remote fetch is failed',
} as const;

export type JwtStatus = (typeof JWT_STATUS)[keyof typeof JWT_STATUS];

export type Claims = Readonly<Record<string, unknown>>;

export interface ParsedToken {
  /** `ok`: of good form; nothing is said about the signature. */
  readonly status: JwtStatus;
  readonly text: string;
  readonly header: Claims;
  readonly claims: Claims;
  readonly alg: string;
  readonly kid: string | undefined;
  readonly iss: string;
  readonly sub: string;
  readonly audiences: readonly string[];
  /** Seconds since the epoch; undefined: not given. */
  readonly exp: number | undefined;
  readonly nbf: number | undefined;
  readonly iat: number | undefined;
  /** The claims as they stand in the token, base64url. */
  readonly payloadText: string;
}

/** Signature algorithms by the kind of key that may make them; `none` is none of them. */
export const ALGORITHMS: ReadonlyMap<string, string> = new Map([
  ...['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'].map((alg) => [alg, 'RSA'] as const),
  ...['ES256', 'ES384', 'ES512'].map((alg) => [alg, 'EC'] as const),
  ...['HS256', 'HS384', 'HS512'].map((alg) => [alg, 'oct'] as const),
  ['EdDSA', 'OKP'] as const,
]);

const NOTHING: Claims = {};
const utf8 = new TextDecoder('utf-8', { fatal: true });

/** Never throws, whatever a client sends. */
export function parseToken(text: string): ParsedToken {
  const parts = text.split('.');
  const [head = '', payload = '', signature = ''] = parts;
  const fail = (status: JwtStatus): ParsedToken => ({ ...EMPTY, status, text });
  if (parts.length !== 3 || parts.includes('')) return fail(JWT_STATUS.badFormat);
  const headerText = fromBase64Url(head);
  if (headerText === undefined) return fail(JWT_STATUS.headerBase64);
  const header = parseObject(headerText);
  if (header === undefined) return fail(JWT_STATUS.headerJson);
  const alg = own(header, 'alg');
  if (typeof alg !== 'string') return fail(JWT_STATUS.headerAlg);
  if (!ALGORITHMS.has(alg)) return fail(JWT_STATUS.algUnsupported);
  const kid = own(header, 'kid');
  if (kid !== undefined && typeof kid !== 'string') return fail(JWT_STATUS.headerKid);
  const claimsText = fromBase64Url(payload);
  if (claimsText === undefined) return fail(JWT_STATUS.payloadBase64);
  const claims = parseObject(claimsText);
  if (claims === undefined) return fail(JWT_STATUS.payloadJson);
  const wrong = wrongClaim(claims);
  if (wrong !== undefined) return fail(wrong);
  if (!isBase64Url(signature)) return fail(JWT_STATUS.signatureBase64);
  const aud = own(claims, 'aud');
  return {
    status: JWT_STATUS.ok,
    text,
    header,
    claims,
    alg,
    kid,
    iss: (own(claims, 'iss') as string | undefined) ?? '',
    sub: (own(claims, 'sub') as string | undefined) ?? '',
    audiences: aud === undefined ? [] : typeof aud === 'string' ? [aud] : (aud as string[]),
    exp: own(claims, 'exp') as number | undefined,
    nbf: own(claims, 'nbf') as number | undefined,
    iat: own(claims, 'iat') as number | undefined,
    payloadText: payload,
  };
}

const EMPTY: ParsedToken = {
  status: JWT_STATUS.badFormat,
  text: '',
  header: NOTHING,
  claims: NOTHING,
  alg: '',
  kid: undefined,
  iss: '',
  sub: '',
  audiences: [],
  exp: undefined,
  nbf: undefined,
  iat: undefined,
  payloadText: '',
};

function wrongClaim(claims: Claims): JwtStatus | undefined {
  for (const [name, status] of [
    ['iss', JWT_STATUS.issNotString],
    ['sub', JWT_STATUS.subNotString],
    ['jti', JWT_STATUS.jtiNotString],
  ] as const) {
    const value = own(claims, name);
    if (value !== undefined && typeof value !== 'string') return status;
  }
  for (const [name, status] of [
    ['iat', JWT_STATUS.iatNotInteger],
    ['nbf', JWT_STATUS.nbfNotInteger],
    ['exp', JWT_STATUS.expNotInteger],
  ] as const) {
    const value = own(claims, name);
    if (value !== undefined && (typeof value !== 'number' || !Number.isFinite(value) || value < 0)) return status;
  }
  const aud = own(claims, 'aud');
  const isList = Array.isArray(aud) && aud.every((item) => typeof item === 'string');
  return aud === undefined || typeof aud === 'string' || isList ? undefined : JWT_STATUS.audNotString;
}

/** Own properties only: claims are a stranger's (attacks.md row 34). */
function own(fields: Claims, name: string): unknown {
  return Object.hasOwn(fields, name) ? fields[name] : undefined;
}

function parseObject(text: string): Claims | undefined {
  try {
    const json: unknown = JSON.parse(text);
    return json !== null && typeof json === 'object' && !Array.isArray(json) ? (json as Claims) : undefined;
  } catch {
    return undefined;
  }
}

/** Node's own decoder passes over what is no base64url. */
function isBase64Url(text: string): boolean {
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    const fine =
      (code >= 97 && code <= 122) ||
      (code >= 65 && code <= 90) ||
      (code >= 48 && code <= 57) ||
      code === 45 ||
      code === 95;
    if (!fine) return false;
  }
  return text.length % 4 !== 1;
}

function fromBase64Url(text: string): string | undefined {
  if (text === '' || !isBase64Url(text)) return undefined;
  try {
    return utf8.decode(Buffer.from(text, 'base64url'));
  } catch {
    return undefined;
  }
}
