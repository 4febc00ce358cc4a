/** SPIFFE IDs as certificates show them. SPIFFE X.509-SVID. */

const PREFIX = 'spiffe://';

/** `spiffe://cluster.local/ns/a/sa/b` → `cluster.local`; '' where it is no SPIFFE ID with a path. */
export function trustDomainOf(uri: string): string {
  if (!uri.startsWith(PREFIX)) return '';
  const slash = uri.indexOf('/', PREFIX.length);
  return slash < 0 ? '' : uri.slice(PREFIX.length, slash);
}
