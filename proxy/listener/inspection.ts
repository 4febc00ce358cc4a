/**
 * Runs the listener filters over a connection's first bytes.
 *
 *   accepted ─ filter 1 … filter n ─► passed (bytes read, end seen)
 *                 │ more: wait for bytes       │ reject, overflow, client gone, timeout
 *                 └────────────◄───────────────┴─► refused
 */
import type { ListenerFilterPredicate } from '../listener_config.ts';
import type { SocketAddress } from '../net/connection_info.ts';
import { Deadline, type DeadlineList } from '../net/deadlines.ts';
import type { HelloFingerprints } from '../net/hello_fingerprints.ts';
import type { ConnectionFacts, ListenerFilter } from '../net/listener_filter.ts';
import { originalDestination } from '../net/original_destination.ts';
import type { SocketStream } from '../net/socket_stream.ts';

/** More than any ClientHello or PROXY header that is accepted: a peer that sends more undecided is refused. */
export const MAX_PEEK_BYTES = 64 * 1024 + 512;
const FIRST_HELD_BYTES = 2048;
const EMPTY = Buffer.alloc(0);

export interface LiveListenerFilter {
  readonly filter: ListenerFilter;
  readonly disabled: ListenerFilterPredicate | undefined;
}

export type InspectionFailure = 'rejected' | 'overflow' | 'timeout' | 'client left';

export interface InspectionOptions {
  readonly filters: readonly LiveListenerFilter[];
  /** undefined: no timeout. */
  readonly timeout: DeadlineList | undefined;
  readonly continueOnTimeout: boolean;
  onTimeout(): void;
}

export interface InspectionCallbacks {
  /** `bytes`: read and not consumed; borrowed. The stream's callbacks are free to be set. */
  passed(bytes: Buffer | undefined, ended: boolean): void;
  failed(why: InspectionFailure): void;
}

export class Inspection {
  readonly facts: SocketFacts;
  readonly #stream: SocketStream;
  readonly #options: InspectionOptions;
  readonly #on: InspectionCallbacks;
  #index = 0;
  #held: Buffer | undefined = undefined;
  #length = 0;
  #ended = false;
  #over = false;
  #deadline: Deadline | undefined = undefined;

  constructor(stream: SocketStream, options: InspectionOptions, on: InspectionCallbacks) {
    this.#stream = stream;
    this.#options = options;
    this.#on = on;
    this.facts = new SocketFacts(stream);
  }

  /** Answers at once where no filter wants bytes. */
  start(): void {
    if (this.#run(EMPTY)) return;
    const { timeout } = this.#options;
    const stream = this.#stream;
    stream.onData = (bytes) => this.#received(bytes);
    stream.onEnd = () => this.#peerEnded();
    stream.onClose = () => this.#fail('client left');
    if (timeout === undefined) return;
    this.#deadline = new Deadline(() => this.#expired());
    timeout.arm(this.#deadline);
  }

  /** No callback afterwards. */
  abandon(): void {
    this.#over = true;
    this.#deadline?.cancel();
  }

  #received(bytes: Buffer): void {
    if (this.#over) return;
    // The usual case: all is known with the first bytes, and nothing is copied.
    if (this.#held === undefined && this.#run(bytes)) return;
    this.#keep(bytes);
    if (this.#length > MAX_PEEK_BYTES) this.#fail('overflow');
    else if (this.#length > bytes.length && this.facts.wantedBytes <= this.#length) this.#run(this.#all);
  }

  get #all(): Buffer {
    return this.#held?.subarray(0, this.#length) ?? EMPTY;
  }

  #keep(bytes: Buffer): void {
    const needed = this.#length + bytes.length;
    if (this.#held === undefined || this.#held.length < needed) {
      const larger = Buffer.allocUnsafe(Math.max(FIRST_HELD_BYTES, needed, (this.#held?.length ?? 0) * 2));
      this.#held?.copy(larger, 0, 0, this.#length);
      this.#held = larger;
    }
    bytes.copy(this.#held, this.#length);
    this.#length = needed;
  }

  /** @returns whether it is over, one way or the other. */
  #run(bytes: Buffer): boolean {
    const { filters } = this.#options;
    const { facts } = this;
    for (; this.#index < filters.length; this.#index++) {
      const { filter, disabled } = filters[this.#index] as LiveListenerFilter;
      if (disabled !== undefined && holds(disabled, facts)) continue;
      facts.wantedBytes = 0;
      const seen = facts.consumedBytes === 0 ? bytes : bytes.subarray(facts.consumedBytes);
      let verdict = filter.inspect(seen, facts);
      if (verdict === 'more') {
        if (!this.#ended) return false;
        verdict = filter.inspectEnd?.(seen, facts) ?? 'done';
      }
      if (verdict === 'reject') {
        this.#fail('rejected');
        return true;
      }
    }
    this.#pass(bytes);
    return true;
  }

  #pass(bytes: Buffer): void {
    this.#over = true;
    this.#deadline?.cancel();
    const { facts } = this;
    const rest = facts.consumedBytes === 0 ? bytes : bytes.subarray(facts.consumedBytes);
    facts.applyTo(this.#stream);
    this.#on.passed(rest.length === 0 ? undefined : rest, this.#ended);
  }

  #fail(why: InspectionFailure): void {
    if (this.#over) return;
    this.abandon();
    this.#on.failed(why);
  }

  #peerEnded(): void {
    if (this.#over) return;
    this.#ended = true;
    // Left without a word: nobody to serve.
    if (this.#length === 0) this.#fail('client left');
    else this.#run(this.#all);
  }

  #expired(): void {
    const { continueOnTimeout, onTimeout } = this.#options;
    onTimeout();
    if (continueOnTimeout) this.#pass(this.#all);
    else this.#fail('timeout');
  }
}

/** The facts of a socket's connection, from its addresses on. */
export class SocketFacts implements ConnectionFacts {
  transportProtocol: ConnectionFacts['transportProtocol'] = '';
  serverName: string | undefined = undefined;
  applicationProtocols: readonly string[] = [];
  fingerprints: HelloFingerprints | undefined = undefined;
  localAddress: SocketAddress;
  localAddressRestored = false;
  remoteAddress: SocketAddress;
  readonly directRemoteAddress: SocketAddress;
  consumedBytes = 0;
  wantedBytes = 0;
  filterState: Map<string, unknown> | undefined = undefined;
  dynamicMetadata: Map<string, Record<string, unknown>> | undefined = undefined;
  readonly #stream: SocketStream;

  constructor(stream: SocketStream) {
    const { info } = stream;
    this.#stream = stream;
    this.localAddress = info.localAddress;
    this.localAddressRestored = info.localAddressRestored;
    this.remoteAddress = info.remoteAddress;
    this.directRemoteAddress = info.remoteAddress;
  }

  originalDestination(): SocketAddress | undefined {
    const { port, ip } = this.directRemoteAddress;
    if (port === 0) return undefined;
    return originalDestination(this.#stream.descriptor, ip.includes(':'));
  }

  /** What the connection is known by from here on. */
  applyTo({ info }: SocketStream): void {
    info.localAddress = this.localAddress;
    info.localAddressRestored = this.localAddressRestored;
    if (this.remoteAddress !== info.remoteAddress) {
      info.directRemoteAddress = this.directRemoteAddress;
      info.remoteAddress = this.remoteAddress;
    }
    info.requestedServerName = this.serverName;
    if (this.fingerprints !== undefined) info.fingerprints = this.fingerprints;
    if (this.filterState !== undefined) info.filterState = this.filterState;
    if (this.dynamicMetadata !== undefined) info.dynamicMetadata = this.dynamicMetadata;
  }
}

function holds(predicate: ListenerFilterPredicate, facts: ConnectionFacts): boolean {
  switch (predicate.kind) {
    case 'any':
      return true;
    case 'and':
      return predicate.rules.every((rule) => holds(rule, facts));
    case 'or':
      return predicate.rules.some((rule) => holds(rule, facts));
    case 'not':
      return !holds(predicate.rule, facts);
    case 'port':
      return facts.localAddress.port >= predicate.start && facts.localAddress.port < predicate.end;
    default:
      return predicate satisfies never;
  }
}
