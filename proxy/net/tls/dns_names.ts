/** DNS names of certificates. RFC 6125 §6.4: a wildcard stands for one whole label, the leftmost. */

/** Whether a certificate's DNS name covers `host`. Bytes outside ASCII and NUL match nothing. */
export function matchesDnsName(pattern: string, host: string): boolean {
  if (!isPlain(pattern) || host === '') return false;
  const wanted = host.toLowerCase();
  const name = pattern.toLowerCase();
  if (name === wanted) return true;
  if (!name.startsWith('*.') || name.includes('*', 1)) return false;
  const dot = wanted.indexOf('.');
  // `*.com` must not cover every company there is.
  return dot > 0 && name.indexOf('.', 2) > 0 && wanted.slice(dot) === name.slice(1);
}

function isPlain(name: string): boolean {
  for (let i = 0; i < name.length; i++) {
    const code = name.charCodeAt(i);
    if (code <= 0x20 || code >= 0x7f) return false;
  }
  return name !== '';
}
