/** A token whose signature held, with everything that requests get of it made once. */
import type { JwtProvider } from './provider.ts';
import type { Claims, ParsedToken } from './token.ts';

export class VerifiedToken {
  readonly token: ParsedToken;
  /** Of the provider's own keys in dynamic metadata; shared by all requests, never written to. */
  readonly metadata: Record<string, unknown> | undefined;
  readonly headers: readonly (readonly [name: string, value: string])[];

  constructor(provider: JwtProvider, token: ParsedToken) {
    this.token = token;
    this.metadata = metadataOf(provider, token);
    const headers: [string, string][] = [];
    if (provider.payloadHeader !== '') {
      const padding = provider.padPayloadHeader ? '='.repeat((4 - (token.payloadText.length % 4)) % 4) : '';
      headers.push([provider.payloadHeader, token.payloadText + padding]);
    }
    for (const { header, path } of provider.claimHeaders) {
      const value = headerValue(claimAt(token.claims, path));
      if (value !== undefined) headers.push([header, value]);
    }
    this.headers = headers;
  }
}

function metadataOf(provider: JwtProvider, token: ParsedToken): Record<string, unknown> | undefined {
  if (provider.payloadInMetadata === '' && provider.headerInMetadata === '') return undefined;
  return {
    ...(provider.headerInMetadata !== '' && { [provider.headerInMetadata]: token.header }),
    ...(provider.payloadInMetadata !== '' && {
      [provider.payloadInMetadata]: normalized(token.claims, provider.spaceDelimitedClaims),
    }),
  };
}

/** `scope: "a b"` becomes a list, so that rules can ask for one of it. */
function normalized(claims: Claims, spaceDelimited: ReadonlySet<string>): Claims {
  const entries = Object.entries(claims).map(([name, value]) => [
    name,
    spaceDelimited.has(name) && typeof value === 'string' ? value.split(' ') : value,
  ]);
  return Object.fromEntries(entries) as Claims;
}

function claimAt(claims: Claims, path: readonly string[]): unknown {
  let value: unknown = claims;
  for (const step of path) {
    if (value === null || typeof value !== 'object' || Array.isArray(value) || !Object.hasOwn(value, step)) {
      return undefined;
    }
    value = (value as Claims)[step];
  }
  return value;
}

/** Texts, numbers and booleans as they are, lists and objects as base64url of their JSON. undefined: no header can hold it. */
function headerValue(claim: unknown): string | undefined {
  if (claim === undefined || claim === null) return undefined;
  if (typeof claim === 'number' || typeof claim === 'boolean') return String(claim);
  if (typeof claim !== 'string') return Buffer.from(JSON.stringify(claim)).toString('base64url');
  for (let i = 0; i < claim.length; i++) {
    const code = claim.charCodeAt(i);
    // It would split the head (attacks.md row 13): such a claim is in no header.
    if (code === 10 || code === 13 || code === 0) return undefined;
  }
  return Buffer.from(claim, 'utf8').latin1Slice();
}
