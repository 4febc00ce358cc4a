/** Secrets of one data thread, by name: what cells hold, and what TLS contexts are made of. */
import type { Secret } from './tls_config.ts';

export interface SecretCell {
  /** Another one when the content is another. */
  readonly version: string;
  readonly secret: Secret;
}

export interface SecretLookup {
  /** Live; undefined: it has not arrived. */
  get(name: string): SecretCell | undefined;
}

/** The name under which the control thread distributes a file's bytes (DataSource.filename). */
export function fileSecretName(path: string): string {
  return `file:${path}`;
}
