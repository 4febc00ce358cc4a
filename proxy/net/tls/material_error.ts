/** Why there can be no TLS context now. */

/** A secret that is not there yet, or cannot be used: the sentence says which, and nothing of a key. */
export class MaterialError extends Error {}

/** The code only: what a library says of a key may quote it. */
export function unusable(error: unknown): MaterialError {
  if (error instanceof MaterialError) return error;
  const { code, reason } = error as { code?: string; reason?: string };
  return new MaterialError(`the certificate, key or roots cannot be used: ${reason ?? code ?? 'unreadable'}`);
}
