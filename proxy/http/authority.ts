/** Which texts may name a host or a path, in both versions of HTTP. */

/** A target has no blank, control character or byte above 126. */
export function isVisibleAscii(target: string): boolean {
  for (let i = 0; i < target.length; i++) {
    const code = target.charCodeAt(i);
    if (code < 33 || code > 126) return false;
  }
  return true;
}

/** RFC 3986 §3.2 without userinfo: reg-name or address, and a port. Underscores are in use. */
export function isHost(host: string): boolean {
  if (host.length === 0 || host.length > 1024) return false;
  for (let i = 0; i < host.length; i++) {
    const code = host.charCodeAt(i);
    const alphanumeric = (code >= 48 && code <= 57) || (code >= 97 && code <= 122) || (code >= 65 && code <= 90);
    // - . : [ ] _ ~ % !
    if (alphanumeric || code === 45 || code === 46 || code === 58 || code === 91 || code === 93 || code === 95)
      continue;
    if (code === 126 || code === 37 || code === 33 || code === 124) continue;
    return false;
  }
  return true;
}
