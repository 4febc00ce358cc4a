/** A second opinion on HTTP/1.1 messages: llhttp, strict, in the build that undici carries. */
import { createRequire } from 'node:module';

/** A message as llhttp reads it. Text is latin1; names as on the wire. */
export interface LlhttpMessage {
  /** The target of a request, the status of a response. */
  readonly start: string;
  readonly fields: readonly string[];
  readonly body: string;
}

export interface LlhttpReading {
  /** Complete messages; trailers stand among the fields. */
  readonly messages: readonly LlhttpMessage[];
  /** Of llhttp's errors; 0: none. 22: it stopped for an upgrade. */
  readonly errno: number;
  readonly reason: string;
}

/** What llhttp.wasm exports, as far as it is used. Pointers are numbers. */
interface Exports {
  readonly memory: { readonly buffer: ArrayBuffer };
  _initialize(): void;
  malloc(size: number): number;
  free(pointer: number): void;
  llhttp_alloc(type: number): number;
  llhttp_free(parser: number): void;
  llhttp_execute(parser: number, bytes: number, length: number): number;
  llhttp_finish(parser: number): number;
  llhttp_get_status_code(parser: number): number;
  llhttp_get_error_reason(parser: number): number;
}

/** The little of the global that types of the DOM would describe. */
interface WebAssemblyGlobal {
  Module: new (bytes: Uint8Array) => object;
  Instance: new (module: object, imports: object) => { readonly exports: unknown };
}

const REQUEST = 1;
const RESPONSE = 2;

let loaded: Exports | undefined;
let listener: Listener | undefined;

class Listener {
  readonly messages: LlhttpMessage[] = [];
  start = '';
  body = '';
  names: string[] = [];
  values: string[] = [];
  #inValue = true;
  readonly skipsBody: boolean;

  constructor(skipsBody: boolean) {
    this.skipsBody = skipsBody;
  }

  begin(): void {
    this.start = '';
    this.body = '';
    this.names = [];
    this.values = [];
    this.#inValue = true;
  }

  name(text: string): void {
    if (this.#inValue) {
      this.names.push(text);
      this.values.push('');
    } else this.names[this.names.length - 1] += text;
    this.#inValue = false;
  }

  value(text: string): void {
    this.values[this.values.length - 1] += text;
    this.#inValue = true;
  }

  complete(status: number): void {
    this.messages.push({
      start: status === 0 ? this.start : String(status),
      fields: this.names.map((name, i) => `${name}: ${(this.values[i] as string).replace(/[ \t]+$/, '')}`),
      body: this.body,
    });
  }
}

/** Reads `text` to its end. `answersHead`: the responses are to HEAD and have no bodies. */
export function readWithLlhttp(text: string, type: 'request' | 'response', answersHead = false): LlhttpReading {
  loaded ??= load();
  const { malloc, free, llhttp_alloc, llhttp_free, llhttp_execute, llhttp_finish } = loaded;
  const bytes = Buffer.from(text, 'latin1');
  const parser = llhttp_alloc(type === 'request' ? REQUEST : RESPONSE);
  const at = malloc(Math.max(1, bytes.length));
  new Uint8Array(loaded.memory.buffer).set(bytes, at);
  listener = new Listener(answersHead);
  const { messages } = listener;
  try {
    const errno = llhttp_execute(parser, at, bytes.length);
    const last = errno === 0 ? llhttp_finish(parser) : errno;
    return {
      messages,
      errno: last,
      reason: last === 0 ? '' : textFrom(loaded, loaded.llhttp_get_error_reason(parser)),
    };
  } finally {
    listener = undefined;
    free(at);
    llhttp_free(parser);
  }
}

/** A string of C. */
function textFrom({ memory }: Exports, at: number): string {
  const bytes = Buffer.from(memory.buffer);
  return bytes.toString('latin1', at, bytes.indexOf(0, at));
}

function load(): Exports {
  const bytes = createRequire(import.meta.url)('undici/lib/llhttp/llhttp-wasm.js') as Uint8Array;
  const { Module, Instance } = (globalThis as unknown as { readonly WebAssembly: WebAssemblyGlobal }).WebAssembly;
  const textAt = (at: number, length: number): string =>
    Buffer.from((loaded as Exports).memory.buffer, at, length).toString('latin1');
  const span =
    (take: (to: Listener, text: string) => void) =>
    (_parser: number, at: number, length: number): number => {
      if (listener !== undefined) take(listener, textAt(at, length));
      return 0;
    };
  const env = {
    wasm_on_message_begin: (): number => {
      listener?.begin();
      return 0;
    },
    wasm_on_url: span((to, text) => {
      to.start += text;
    }),
    wasm_on_status: (): number => 0,
    wasm_on_header_field: span((to, text) => to.name(text)),
    wasm_on_header_value: span((to, text) => to.value(text)),
    wasm_on_headers_complete: (): number => (listener?.skipsBody === true ? 1 : 0),
    wasm_on_body: span((to, text) => {
      to.body += text;
    }),
    wasm_on_message_complete: (parser: number): number => {
      listener?.complete((loaded as Exports).llhttp_get_status_code(parser));
      return 0;
    },
  };
  loaded = new Instance(new Module(bytes), { env }).exports as Exports;
  loaded._initialize();
  return loaded;
}
