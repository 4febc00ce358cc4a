/** Fields whose values are secrets: not compressed where they could be guessed, not shared between connections. */

export function isSecret(name: string): boolean {
  switch (name.length) {
    case 6:
      return name === 'cookie';
    case 10:
      return name === 'set-cookie';
    case 13:
      return name === 'authorization';
    case 19:
      return name === 'proxy-authorization';
    default:
      return false;
  }
}
