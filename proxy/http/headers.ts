/** Header maps: flat, lower-case names, the original spelling kept aside. */

/** Flat [name, value, …], names lowercase, original case kept aside; both codecs fill it without an object per field. */
export interface HeaderMap {
  /** Alternating lower-case name and value, in the order received. Pseudo-headers are not in here. */
  readonly fields: string[];
  /** Sum of the lengths of names and values. */
  readonly byteSize: number;
  /** The first value. `:method`, `:path`, `:authority`, `:scheme`, `:status` answer from the typed fields. */
  get(name: string): string | undefined;
  has(name: string): boolean;
  /** Every value of a repeated field. */
  getAll(name: string): string[];
  /** Comma-joined values: what RBAC and header matchers see. */
  joined(name: string): string | undefined;
  /** Replaces the first value in place, drops the others, or appends. `name` must be lower-case. */
  set(name: string, value: string): void;
  append(name: string, value: string): void;
  remove(name: string): void;
}

export class Headers implements HeaderMap {
  readonly fields: string[] = [];
  /** Spelling of each name as received, by field index / 2; undefined when every name came in lower case. */
  originalNames: (string | undefined)[] | undefined = undefined;
  /** Bytes of the head as it came, or as it was written; 0 before. Set by codecs. */
  wireBytes = 0;

  get byteSize(): number {
    let size = 0;
    for (const text of this.fields) size += text.length;
    return size;
  }

  get(name: string): string | undefined {
    const { fields } = this;
    for (let i = 0; i < fields.length; i += 2) if (fields[i] === name) return fields[i + 1];
    return name.charCodeAt(0) === 58 ? this.pseudo(name) : undefined;
  }

  has(name: string): boolean {
    return this.get(name) !== undefined;
  }

  getAll(name: string): string[] {
    const values: string[] = [];
    const { fields } = this;
    for (let i = 0; i < fields.length; i += 2) if (fields[i] === name) values.push(fields[i + 1] as string);
    if (values.length === 0 && name.charCodeAt(0) === 58) {
      const value = this.pseudo(name);
      if (value !== undefined) values.push(value);
    }
    return values;
  }

  joined(name: string): string | undefined {
    const { fields } = this;
    let joined: string | undefined;
    for (let i = 0; i < fields.length; i += 2) {
      if (fields[i] === name) joined = joined === undefined ? fields[i + 1] : `${joined},${fields[i + 1]}`;
    }
    return joined === undefined && name.charCodeAt(0) === 58 ? this.pseudo(name) : joined;
  }

  /** @throws {TypeError} on CR, LF, NUL or a character above 255: they would split the message (attacks.md row 13). */
  set(name: string, value: string): void {
    refuseSplit(name, value);
    if (name.charCodeAt(0) === 58 && this.setPseudo(name, value)) return;
    this.setOwn(name, value);
  }

  /** As `set`, of a name and value that are ours: nothing of a peer's is in them that could split the head. */
  setOwn(name: string, value: string): void {
    const { fields } = this;
    for (let i = 0; i < fields.length; i += 2) {
      if (fields[i] !== name) continue;
      fields[i + 1] = value;
      this.#removeFrom(name, i + 2);
      return;
    }
    fields.push(name, value);
  }

  /** @throws {TypeError} as `set` does. */
  append(name: string, value: string): void {
    refuseSplit(name, value);
    this.fields.push(name, value);
  }

  /** Appends a field whose spelling on the wire was `original`. Called by codecs. */
  appendAsReceived(name: string, original: string, value: string): void {
    if (name !== original) {
      this.originalNames ??= [];
      this.originalNames[this.fields.length >> 1] = original;
    }
    this.fields.push(name, value);
  }

  remove(name: string): void {
    this.#removeFrom(name, 0);
  }

  /** Keeps the fields for which `keep` answers true; one pass, whatever goes. */
  filter(keep: (name: string, value: string) => boolean): void {
    const { fields, originalNames } = this;
    let to = 0;
    for (let from = 0; from < fields.length; from += 2) {
      if (!keep(fields[from] as string, fields[from + 1] as string)) continue;
      if (to !== from) {
        fields[to] = fields[from] as string;
        fields[to + 1] = fields[from + 1] as string;
        if (originalNames !== undefined) originalNames[to >> 1] = originalNames[from >> 1];
      }
      to += 2;
    }
    if (to === fields.length) return;
    // Field by field: to set an array's length is a call into the runtime.
    while (fields.length > to) fields.pop();
    if (originalNames !== undefined && originalNames.length > to >> 1) originalNames.length = to >> 1;
  }

  /** The typed field behind a pseudo-header name. */
  protected pseudo(_name: string): string | undefined {
    return undefined;
  }

  /** @returns whether the name was one of this map's pseudo-headers. */
  protected setPseudo(_name: string, _value: string): boolean {
    return false;
  }

  #removeFrom(name: string, start: number): void {
    const { fields } = this;
    for (let i = start; i < fields.length; ) {
      if (fields[i] === name) {
        fields.splice(i, 2);
        this.originalNames?.splice(i >> 1, 1);
      } else i += 2;
    }
  }
}

function refuseSplit(name: string, value: string): void {
  if (splitsHead(value)) {
    throw new TypeError(`Cannot set header "${name}": its value holds CR, LF, NUL or what is no byte`);
  }
  if (splitsHead(name)) {
    throw new TypeError(`Cannot set header ${JSON.stringify(name)}: its name holds CR, LF, NUL or what is no byte`);
  }
}

/** Heads are written as latin1, which takes the low byte of what is above 255: U+010A would become LF (CVE-2016-2216). */
function splitsHead(text: string): boolean {
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code === 10 || code === 13 || code === 0 || code > 255) return true;
  }
  return false;
}

/** A request's head. Empty strings stand for what is absent (CONNECT has no path). */
export class RequestHeaders extends Headers {
  method = 'GET';
  /** Path and query as it will be forwarded (origin form, `*`, or '' for CONNECT). */
  path = '/';
  /** A path that a codec found to be visible ASCII: while `path` is that one, it may stand in any request line. */
  visiblePath = '/';
  /** Host header or authority, as received. */
  authority = '';
  scheme = 'http';
  /** Of extended CONNECT (RFC 8441), else undefined. */
  protocol: string | undefined = undefined;

  protected override pseudo(name: string): string | undefined {
    switch (name) {
      case ':method':
        return this.method;
      case ':path':
        return this.path === '' ? undefined : this.path;
      case ':authority':
        return this.authority;
      case ':scheme':
        return this.scheme;
      case ':protocol':
        return this.protocol;
      default:
        return undefined;
    }
  }

  protected override setPseudo(name: string, value: string): boolean {
    switch (name) {
      case ':method':
        this.method = value;
        return true;
      case ':path':
        this.path = value;
        return true;
      case ':authority':
        this.authority = value;
        return true;
      case ':scheme':
        this.scheme = value;
        return true;
      default:
        return false;
    }
  }
}

/** A response's head. */
export class ResponseHeaders extends Headers {
  status = 200;
  /** Reason phrase as received; undefined: the standard one. */
  reason: string | undefined = undefined;

  protected override pseudo(name: string): string | undefined {
    return name === ':status' ? String(this.status) : undefined;
  }

  protected override setPseudo(name: string, value: string): boolean {
    if (name !== ':status') return false;
    this.status = Number(value);
    return true;
  }
}
