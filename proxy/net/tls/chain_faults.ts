/** What OpenSSL finds wrong with a certificate chain: its numbers, Node's names for them, and Envoy's words. */

export interface ChainFault {
  /** Node's name (`CERT_HAS_EXPIRED`), or words where there is none. */
  readonly code: string;
  /** Of the certificate at fault; 0: the peer's own. */
  readonly depth: number;
}

/** X509_V_ERR_… by number (openssl/x509_vfy.h). */
const names: Readonly<Record<number, string>> = {
  2: 'UNABLE_TO_GET_ISSUER_CERT',
  3: 'UNABLE_TO_GET_CRL',
  7: 'CERT_SIGNATURE_FAILURE',
  8: 'CRL_SIGNATURE_FAILURE',
  9: 'CERT_NOT_YET_VALID',
  10: 'CERT_HAS_EXPIRED',
  11: 'CRL_NOT_YET_VALID',
  12: 'CRL_HAS_EXPIRED',
  18: 'DEPTH_ZERO_SELF_SIGNED_CERT',
  19: 'SELF_SIGNED_CERT_IN_CHAIN',
  20: 'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  21: 'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  22: 'CERT_CHAIN_TOO_LONG',
  23: 'CERT_REVOKED',
  25: 'PATH_LENGTH_EXCEEDED',
  26: 'INVALID_PURPOSE',
  27: 'CERT_UNTRUSTED',
  28: 'CERT_REJECTED',
  79: 'INVALID_CA',
};

/** X509_verify_cert_error_string's texts. */
const texts: Readonly<Record<string, string>> = {
  UNABLE_TO_GET_ISSUER_CERT: 'unable to get issuer certificate',
  UNABLE_TO_GET_CRL: 'unable to get certificate CRL',
  CERT_SIGNATURE_FAILURE: 'certificate signature failure',
  CRL_SIGNATURE_FAILURE: 'CRL signature failure',
  CERT_NOT_YET_VALID: 'certificate is not yet valid',
  CERT_HAS_EXPIRED: 'certificate has expired',
  CRL_NOT_YET_VALID: 'CRL is not yet valid',
  CRL_HAS_EXPIRED: 'CRL has expired',
  DEPTH_ZERO_SELF_SIGNED_CERT: 'self-signed certificate',
  SELF_SIGNED_CERT_IN_CHAIN: 'self-signed certificate in certificate chain',
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: 'unable to get local issuer certificate',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: 'unable to verify the first certificate',
  CERT_CHAIN_TOO_LONG: 'certificate chain too long',
  CERT_REVOKED: 'certificate revocation check against provided CRLs failed: certificate revoked',
  INVALID_CA: 'invalid CA certificate',
  PATH_LENGTH_EXCEEDED: 'path length constraint exceeded',
  INVALID_PURPOSE: 'unsupported certificate purpose',
  CERT_UNTRUSTED: 'certificate not trusted',
  CERT_REJECTED: 'certificate rejected',
};

/** Of OpenSSL's number. */
export function chainFault(error: number, depth: number): ChainFault {
  return { code: names[error] ?? `OpenSSL's error ${error}`, depth };
}

/** Of `authorizationError`: Node types it as an error, and gives its code. */
export function faultOfCode(error: unknown): ChainFault {
  if (typeof error === 'string') return { code: error, depth: 0 };
  if (!(error instanceof Error)) return { code: 'CERT_UNTRUSTED', depth: 0 };
  return { code: (error as NodeJS.ErrnoException).code ?? error.message, depth: 0 };
}

/** In the words of X509_verify_cert_error_string, which Envoy prints. */
export function faultText({ code }: ChainFault): string {
  return texts[code] ?? (/^[A-Z0-9_]+$/.test(code) ? code.toLowerCase().replaceAll('_', ' ') : code);
}
