/** What a decoded field is to HTTP/2: found out once when its text is decoded, kept beside it in the dynamic table. */

export const Kind = {
  regular: 0,
  method: 1,
  scheme: 2,
  authority: 3,
  path: 4,
  status: 5,
  protocol: 6,
  contentLength: 7,
  cookie: 8,
  host: 9,
  te: 10,
  /** Of HTTP/1.1 connections only: malformed here (RFC 9113 §8.2.2). */
  connection: 11,
  /** A pseudo-header that nobody defined, or a name that is no lower-case token (§8.2.1, §8.3). */
  badName: 12,
  /** CR, LF, NUL or outer blanks in the value (§8.2.1). */
  badValue: 13,
} as const;

/** tchar of RFC 9110 §5.6.2 without capitals. */
const LOWER_TOKEN = new Uint8Array(256);
for (const char of "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz") LOWER_TOKEN[char.charCodeAt(0)] = 1;

/** 1: may stand in a value. */
const VALUE = new Uint8Array(256).fill(1);
for (let code = 0; code < 32; code++) if (code !== 9) VALUE[code] = 0;
VALUE[127] = 0;

/** The kind of a field called `name`, its value not looked at. */
export function kindOfName(name: string): number {
  if (name.charCodeAt(0) === 58 /* : */) return kindOfPseudo(name);
  for (let i = 0; i < name.length; i++) if (LOWER_TOKEN[name.charCodeAt(i)] !== 1) return Kind.badName;
  switch (name) {
    case '':
      return Kind.badName;
    case 'content-length':
      return Kind.contentLength;
    case 'cookie':
      return Kind.cookie;
    case 'host':
      return Kind.host;
    case 'te':
      return Kind.te;
    case 'connection':
    case 'proxy-connection':
    case 'keep-alive':
    case 'transfer-encoding':
    case 'upgrade':
      return Kind.connection;
    default:
      return Kind.regular;
  }
}

/** The kind of a whole field, when its name's is `kind`. */
export function kindOfField(kind: number, value: string): number {
  if (kind === Kind.badName) return kind;
  const { length } = value;
  for (let i = 0; i < length; i++) if (VALUE[value.charCodeAt(i)] !== 1) return Kind.badValue;
  if (length === 0) return kind;
  const first = value.charCodeAt(0);
  const last = value.charCodeAt(length - 1);
  return first === 32 || first === 9 || last === 32 || last === 9 ? Kind.badValue : kind;
}

function kindOfPseudo(name: string): number {
  switch (name) {
    case ':method':
      return Kind.method;
    case ':scheme':
      return Kind.scheme;
    case ':authority':
      return Kind.authority;
    case ':path':
      return Kind.path;
    case ':status':
      return Kind.status;
    case ':protocol':
      return Kind.protocol;
    default:
      return Kind.badName;
  }
}
