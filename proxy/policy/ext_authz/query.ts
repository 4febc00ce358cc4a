/** Query parameters that an authorizer sets and removes. */

/** Removed first, then set: a parameter that is there keeps its place. Names and values are percent-encoded. */
export function changeQuery(
  path: string,
  set: readonly (readonly [name: string, value: string])[],
  remove: readonly string[],
): string {
  const question = path.indexOf('?');
  const gone = new Set(remove.map(encodeURIComponent));
  let pairs =
    question < 0
      ? []
      : path
          .slice(question + 1)
          .split('&')
          .filter((pair) => pair !== '' && !gone.has(nameOf(pair)));
  for (const [name, value] of set) {
    const encoded = encodeURIComponent(name);
    const pair = `${encoded}=${encodeURIComponent(value)}`;
    const at = pairs.findIndex((other) => nameOf(other) === encoded);
    if (at < 0) pairs.push(pair);
    else
      pairs = pairs
        .map((other, index) => (index === at ? pair : other))
        .filter((other, index) => index === at || nameOf(other) !== encoded);
  }
  const bare = question < 0 ? path : path.slice(0, question);
  return pairs.length === 0 ? bare : `${bare}?${pairs.join('&')}`;
}

function nameOf(pair: string): string {
  const equals = pair.indexOf('=');
  return equals < 0 ? pair : pair.slice(0, equals);
}
