/** Keeps one stream to a config server: connects, asks, acknowledges, comes back after a loss with what it has. */
import { Slices } from '../../proxy/telemetry/slices.ts';
import { WireError } from '../envoy/wire_reader.ts';
import type { Json } from '../resources.ts';
import type { Backoff } from './backoff.ts';
import { encodeMessage, type Push, readPush } from './discovery_messages.ts';
import type { XdsType } from './resource_types.ts';
import { DeltaSubscription, SotwSubscription, type Subscription } from './subscriptions.ts';
import { openStream, type ServerAddress, type Stream } from './transport.ts';

export type Protocol = 'delta' | 'sotw';

/** What became of a push. */
export interface PushOutcome {
  /** By name and version, of what was taken over (also what it had already). */
  readonly accepted: readonly { readonly name: string; readonly version: string }[];
  readonly removed: readonly string[];
  /** Sentences: the NACK's text. */
  readonly errors: readonly string[];
}

export interface ConfigStreamOptions {
  readonly server: ServerAddress;
  readonly method: string;
  readonly protocol: Protocol;
  /** envoy.config.core.v3.Node. */
  readonly node: Json;
  readonly backoff: Backoff;
  onPush(type: XdsType, push: Push, names: ReadonlySet<string>): Promise<PushOutcome>;
  onConnected(isConnected: boolean, reason: string): void;
  /** A request was sent that asks for something. */
  onAsked(type: XdsType): void;
  /** The server does what the protocol forbids; the stream goes on. */
  onComplaint(sentence: string): void;
}

const REQUESTS = {
  delta: 'envoy.service.discovery.v3.DeltaDiscoveryRequest',
  sotw: 'envoy.service.discovery.v3.DiscoveryRequest',
} as const;

/** A server that sends what was refused again at once would keep both busy: its second NACK waits, the next ones longer. */
const REPEATED_NACK = { firstMs: 1000, maxMs: 30_000 } as const;

/** The last refusal of a type. */
interface Refusal {
  readonly text: string;
  readonly repeats: number;
  readonly timer: NodeJS.Timeout | undefined;
}

export class ConfigStream {
  readonly #slices = new Slices();
  readonly #refusals = new Map<string, Refusal>();
  readonly #options: ConfigStreamOptions;
  readonly #subscriptions = new Map<string, Subscription>();
  #stream: Stream | undefined = undefined;
  #retry: NodeJS.Timeout | undefined = undefined;
  #isNodeSent = false;
  #isFlushScheduled = false;
  #pushesUnderWay = 0;
  #isStarted = false;
  #isStopped = false;

  constructor(options: ConfigStreamOptions) {
    this.#options = options;
  }

  /** Idempotent. */
  start(): void {
    if (this.#isStarted || this.#isStopped) return;
    this.#isStarted = true;
    void this.#connect();
  }

  stop(): void {
    this.#isStopped = true;
    clearTimeout(this.#retry);
    for (const { timer } of this.#refusals.values()) clearTimeout(timer);
    const stream = this.#stream;
    this.#stream = undefined;
    stream?.close();
  }

  /** Asks for everything there is of a type. */
  subscribeAll(type: XdsType): void {
    const before = this.#subscriptions.get(type.url);
    if (before !== undefined) return;
    this.#open(type).addAll();
    if (this.#stream !== undefined) this.#sendFirst(this.#open(type));
  }

  /** Names that are given in one turn of the event loop, or while a push is taken over, go in one request. */
  subscribe(type: XdsType, name: string): void {
    this.#open(type).add(name);
    this.#scheduleFlush();
  }

  unsubscribe(type: XdsType, name: string): void {
    this.#subscriptions.get(type.url)?.remove(name);
    this.#scheduleFlush();
  }

  #open(type: XdsType): Subscription {
    let subscription = this.#subscriptions.get(type.url);
    if (subscription === undefined) {
      subscription = this.#options.protocol === 'delta' ? new DeltaSubscription(type) : new SotwSubscription(type);
      this.#subscriptions.set(type.url, subscription);
    }
    return subscription;
  }

  #scheduleFlush(): void {
    if (this.#isFlushScheduled) return;
    this.#isFlushScheduled = true;
    setImmediate(() => this.#flush());
  }

  /** As Envoy, after a push and its answer: of the state of the world each request lists all names, and clusters come in slices. */
  #flush(): void {
    if (!this.#isFlushScheduled || this.#pushesUnderWay > 0) return;
    this.#isFlushScheduled = false;
    if (this.#stream === undefined) return;
    for (const subscription of this.#subscriptions.values()) {
      const changes = subscription.changes();
      if (changes === undefined) continue;
      this.#options.onAsked(subscription.type);
      this.#send(changes);
    }
  }

  async #connect(): Promise<void> {
    const { server, method, onConnected } = this.#options;
    let isOver = false;
    const stream = await openStream(server, method, {
      // What comes before anything was asked for is thrown away.
      onMessage: (bytes) => (this.#stream === undefined ? Promise.resolve() : this.#take(this.#stream, bytes)),
      onEnd: (reason) => {
        isOver = true;
        this.#stream = undefined;
        if (this.#isStopped) return;
        onConnected(false, reason);
        this.#retry = setTimeout(() => void this.#connect(), this.#options.backoff.nextMs()).unref();
      },
    });
    // The end of a stream that could not even be opened is told in a microtask.
    await Promise.resolve();
    if (isOver) return;
    if (this.#isStopped) {
      stream.close();
      return;
    }
    this.#stream = stream;
    this.#isNodeSent = false;
    onConnected(true, '');
    for (const subscription of this.#subscriptions.values()) this.#sendFirst(subscription);
  }

  #sendFirst(subscription: Subscription): void {
    const first = subscription.first();
    if (first === undefined) return;
    this.#options.onAsked(subscription.type);
    this.#send(first);
  }

  #send(request: Json): void {
    const withNode = this.#isNodeSent ? request : { ...request, node: this.#options.node };
    this.#isNodeSent = true;
    this.#stream?.send(encodeMessage(REQUESTS[this.#options.protocol], withNode));
  }

  async #take(stream: Stream, bytes: Buffer): Promise<void> {
    this.#pushesUnderWay++;
    try {
      await this.#receive(stream, bytes);
    } finally {
      this.#pushesUnderWay--;
      this.#flush();
    }
  }

  async #receive(stream: Stream, bytes: Buffer): Promise<void> {
    const { protocol, onComplaint, onPush, backoff } = this.#options;
    let push: Push;
    try {
      push = await readPush(bytes, protocol, this.#slices);
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      onComplaint(`It sent bytes that are no discovery response: ${error.message}`);
      stream.close();
      return;
    }
    const subscription = this.#subscriptions.get(push.typeUrl);
    if (subscription === undefined) {
      onComplaint(`It pushed type "${push.typeUrl.slice(0, 200)}", which was not asked for`);
      return;
    }
    backoff.reset();
    const { accepted, removed, errors } = await onPush(subscription.type, push, subscription.names);
    await this.#slices.each(accepted, ({ name, version }) => {
      if (subscription.type.isWildcard || subscription.names.has(name)) subscription.accepted(name, version);
    });
    for (const name of removed) subscription.gone(name);
    this.#answer(stream, subscription, push, errors);
  }

  #answer(stream: Stream, subscription: Subscription, push: Push, errors: readonly string[]): void {
    const { url } = subscription.type;
    const before = this.#refusals.get(url);
    clearTimeout(before?.timer);
    this.#refusals.delete(url);
    const answer = (): void => {
      // The answer to a stream that is gone means nothing to the next one.
      if (this.#stream === stream) this.#send(subscription.answer(push.nonce, push.version, errors));
    };
    if (errors.length === 0) return answer();
    const text = errors.join('\n');
    if (before?.text !== text) {
      this.#refusals.set(url, { text, repeats: 0, timer: undefined });
      return answer();
    }
    const { firstMs, maxMs } = REPEATED_NACK;
    const timer = setTimeout(answer, Math.min(maxMs, firstMs * 2 ** before.repeats)).unref();
    this.#refusals.set(url, { text, repeats: before.repeats + 1, timer });
  }
}
