/** A mesh may have had other names: principals of one trust domain stand for those of its aliases too. */

/** Istio's own name for "the local trust domain", whatever it is called. */
const LOCAL = 'cluster.local';

/**
 * Principals (`TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT`) with those of the other trust domains added.
 * Source: istio/istio pilot/pkg/security/trustdomain.
 * @param domains the mesh's own first, then its aliases
 */
export function withAliases(principals: readonly string[], domains: readonly string[]): string[] {
  return principals.flatMap((principal) => {
    const parts = principal.split('/');
    const domain = parts[0] as string;
    // Whoever asks for any trust domain, or for something that is no whole identity, means it as it stands.
    if (parts.length !== 5 || domain === '*') return [principal];
    if (domain !== LOCAL && !domains.some((known) => overlaps(domain, known))) return [principal];
    const out = domains.map((known) => (endsLike(known, domain) ? principal : [known, ...parts.slice(1)].join('/')));
    return [...new Set(out)];
  });
}

function overlaps(a: string, b: string): boolean {
  return a === b || beginsLike(a, b) || beginsLike(b, a) || endsLike(a, b) || endsLike(b, a);
}

/** `pattern` is `abc*`. */
function beginsLike(text: string, pattern: string): boolean {
  return pattern.endsWith('*') && text.startsWith(pattern.slice(0, -1));
}

/** `pattern` is `*abc`. */
function endsLike(text: string, pattern: string): boolean {
  return pattern.startsWith('*') && text.endsWith(pattern.slice(1));
}
