/**
 * Path templates: `*` one segment, `**` the rest, `{name}`, `{name=*.txt}`. They match whole paths.
 * Source: envoy.extensions.path.match.uri_template.v3, source/extensions/path/uri_template_lib.
 */
import { ConfigError } from '../config_error.ts';
import { Regex } from '../http/matchers.ts';

/** `*` is a character of paths like others (CVE-2025-46821). */
const LITERAL = "[a-zA-Z0-9-._~%!$&'()*+,;:@=]";

export interface UriTemplate {
  readonly regex: Regex;
  /** Variables in the order of their groups. */
  readonly variables: readonly string[];
  /** What every matching path begins with. */
  readonly literalPrefix: string;
}

/** @throws {ConfigError} */
export function compileUriTemplate(template: string, path: string): UriTemplate {
  if (!template.startsWith('/')) throw new ConfigError(path, `"${template}" must begin with /`);
  const variables: string[] = [];
  let sawRest = false;
  const pattern = template
    .slice(1)
    .split(/\/(?![^{]*\})/)
    .map((segment) => {
      if (sawRest && /[*{]/.test(segment)) {
        throw new ConfigError(path, `"${template}": no other wildcard can come after **`);
      }
      return compileSegment(segment);
    })
    .join('/');
  const wildcard = template.search(/[*{]/);
  return {
    regex: new Regex(`/${pattern}`, path),
    variables,
    literalPrefix: wildcard < 0 ? template : template.slice(0, wildcard),
  };

  function compileSegment(segment: string): string {
    if (segment.includes('**') && !segment.startsWith('{')) sawRest = true;
    return segment.replace(/\{([^}=]*)(?:=([^}]*))?\}|\*\*|\*|[^{*]+/g, (part, name?: string, inner?: string) => {
      if (part === '**') return `${LITERAL.slice(0, -1)}/]*`;
      if (part === '*') return `${LITERAL}+`;
      if (name === undefined) return part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
      if (!/^[a-zA-Z][a-zA-Z0-9_]*$/.test(name) || variables.includes(name)) {
        throw new ConfigError(path, `"${template}": "${name}" is not a new variable name`);
      }
      variables.push(name);
      return `(${inner === undefined ? `${LITERAL}+` : compileSegment(inner)})`;
    });
  }
}
