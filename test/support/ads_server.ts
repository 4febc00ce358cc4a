/** A control plane for tests: serves resources over ADS (delta and state of the world) and SDS, and remembers what is answered. */
import { EventEmitter } from 'node:events';
import { fromBinary, fromJson, type JsonValue, toBinary, toJson } from '@bufbuild/protobuf';
import { Server, ServerCredentials, type ServerDuplexStream, type ServiceDefinition } from '@grpc/grpc-js';
import { descriptors } from '../../config/envoy/descriptors.ts';
import type { Json } from '../../config/resources.ts';
import type { KeyPair } from './mesh_ca.ts';
import type { Scope } from './scope.ts';

export const TYPES = {
  clusters: 'envoy.config.cluster.v3.Cluster',
  endpoints: 'envoy.config.endpoint.v3.ClusterLoadAssignment',
  listeners: 'envoy.config.listener.v3.Listener',
  routes: 'envoy.config.route.v3.RouteConfiguration',
  secrets: 'envoy.extensions.transport_sockets.tls.v3.Secret',
  scopes: 'envoy.config.route.v3.ScopedRouteConfiguration',
  virtualHosts: 'envoy.config.route.v3.VirtualHost',
  extensions: 'envoy.config.core.v3.TypedExtensionConfig',
  runtimes: 'envoy.service.runtime.v3.Runtime',
  names: 'istio.networking.nds.v1.NameTable',
} as const;
export type List = keyof typeof TYPES;

/** What a client answered to a push. */
export interface Answer {
  readonly list: List;
  readonly nonce: string;
  /** undefined: accepted. */
  readonly error: string | undefined;
}

/** A request as it came, without node. */
export interface Asked {
  readonly list: List;
  readonly request: Json;
}

type Duplex = ServerDuplexStream<Buffer, Buffer>;

const asIs = (bytes: Buffer): Buffer => bytes;
const METHODS = {
  '/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources': 'delta',
  '/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources': 'sotw',
  '/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets': 'sotw',
  '/envoy.service.secret.v3.SecretDiscoveryService/DeltaSecrets': 'delta',
  '/envoy.service.endpoint.v3.EndpointDiscoveryService/StreamEndpoints': 'sotw',
  '/envoy.service.endpoint.v3.EndpointDiscoveryService/DeltaEndpoints': 'delta',
  '/envoy.service.cluster.v3.ClusterDiscoveryService/StreamClusters': 'sotw',
  '/envoy.service.cluster.v3.ClusterDiscoveryService/DeltaClusters': 'delta',
  '/envoy.service.listener.v3.ListenerDiscoveryService/StreamListeners': 'sotw',
  '/envoy.service.listener.v3.ListenerDiscoveryService/DeltaListeners': 'delta',
  '/envoy.service.route.v3.RouteDiscoveryService/StreamRoutes': 'sotw',
  '/envoy.service.route.v3.RouteDiscoveryService/DeltaRoutes': 'delta',
  '/envoy.service.route.v3.VirtualHostDiscoveryService/DeltaVirtualHosts': 'delta',
  '/envoy.service.runtime.v3.RuntimeDiscoveryService/StreamRuntime': 'sotw',
  '/envoy.service.runtime.v3.RuntimeDiscoveryService/DeltaRuntime': 'delta',
} as const;

export class AdsServer {
  readonly answers: Answer[] = [];
  readonly asked: Asked[] = [];
  /** Node of each stream. */
  readonly nodes: Json[] = [];
  /** `authorization` of each stream. */
  readonly tokens: (string | undefined)[] = [];
  /** False: named resources are not given by themselves when they are asked for. */
  answersByItself = true;
  /** Types of which nothing is said, whatever is asked. */
  readonly mute = new Set<List>();
  #resources = new Map<List, Map<string, { readonly version: string; readonly bytes: Buffer }>>();
  readonly #streams = new Set<ClientStream>();
  readonly #events = new EventEmitter().setMaxListeners(0);
  #server: Server | undefined = undefined;
  #version = 0;
  port = 0;

  /** On a free port of loopback, or at `address` (`unix:/path`). */
  static async start(t: Scope, options: { address?: string; tls?: KeyPair } = {}): Promise<AdsServer> {
    const ads = new AdsServer();
    await ads.listen(options.address ?? '127.0.0.1:0', options.tls);
    t.after(() => ads.close());
    return ads;
  }

  async listen(address: string, tls?: KeyPair): Promise<void> {
    const server = new Server({ 'grpc.max_send_message_length': -1, 'grpc.max_receive_message_length': -1 });
    const definition = Object.fromEntries(
      Object.keys(METHODS).map((path) => [
        path,
        {
          path,
          requestStream: true,
          responseStream: true,
          requestSerialize: asIs,
          requestDeserialize: asIs,
          responseSerialize: asIs,
          responseDeserialize: asIs,
        },
      ]),
    ) as unknown as ServiceDefinition;
    const handlers = Object.fromEntries(
      Object.entries(METHODS).map(([path, protocol]) => [path, (call: Duplex) => this.#open(call, protocol)]),
    );
    server.addService(definition, handlers);
    const credentials =
      tls === undefined
        ? ServerCredentials.createInsecure()
        : ServerCredentials.createSsl(null, [
            { private_key: Buffer.from(tls.key), cert_chain: Buffer.from(tls.chain) },
          ]);
    this.port = await new Promise<number>((resolve, reject) => {
      server.bindAsync(address, credentials, (error, port) => (error === null ? resolve(port) : reject(error)));
    });
    this.#server = server;
  }

  /** Ends all streams and stops listening: a control plane that is lost. */
  close(): void {
    for (const { call } of this.#streams) call.destroy();
    this.#streams.clear();
    this.#server?.forceShutdown();
  }

  get streamCount(): number {
    return this.#streams.size;
  }

  /** What the client asked with on its newest stream. */
  get names(): ReadonlyMap<List, ReadonlySet<string>> {
    return [...this.#streams].at(-1)?.names ?? new Map();
  }

  /** Sets resources without pushing them; removes those of `gone`. */
  set(resources: Partial<Record<List, readonly Json[]>>, gone: Partial<Record<List, readonly string[]>> = {}): void {
    this.#version++;
    for (const [list, items] of Object.entries(resources) as [List, readonly Json[]][]) {
      const held = this.#resources.get(list) ?? new Map();
      this.#resources.set(list, held);
      for (const json of items) {
        const bytes = encode(TYPES[list], json);
        held.set(String(json['name'] ?? json['cluster_name'] ?? ''), { version: String(this.#version), bytes });
      }
    }
    for (const [list, names] of Object.entries(gone) as [List, readonly string[]][]) {
      for (const name of names) this.#resources.get(list)?.delete(name);
    }
  }

  /** Sets and pushes the lists named, whole or as a difference. @returns once everybody answered. */
  async push(
    resources: Partial<Record<List, readonly Json[]>>,
    gone: Partial<Record<List, readonly string[]>> = {},
  ): Promise<Answer[]> {
    this.set(resources, gone);
    const lists = new Set([...Object.keys(resources), ...Object.keys(gone)] as List[]);
    const answers: Promise<Answer>[] = [];
    for (const stream of this.#streams) {
      for (const list of lists) {
        const names = (resources[list] ?? []).map((json) => String(json['name'] ?? json['cluster_name'] ?? ''));
        const nonce = stream.send(list, names, gone[list] ?? []);
        if (nonce !== undefined) answers.push(this.answer(nonce));
      }
    }
    return Promise.all(answers);
  }

  /** Pushes one resource that is encoded already, without waiting for an answer. */
  sendEncoded(list: List, name: string, content: Buffer): void {
    this.#version++;
    const held = this.#resources.get(list) ?? new Map();
    this.#resources.set(list, held);
    held.set(name, { version: this.version, bytes: content });
    for (const stream of this.#streams) stream.send(list, [name], []);
  }

  /** Bytes as they are, as resources of a delta push or whole. @returns the answer. */
  pushRaw(list: List, resources: readonly RawResource[], removed: readonly string[] = []): Promise<Answer> {
    const [stream] = this.#streams;
    if (stream === undefined) throw new Error('nobody is connected');
    return this.answer(stream.sendRaw(list, resources, removed));
  }

  /** Bytes in place of a response. */
  sendBytes(bytes: Buffer): void {
    for (const { call } of this.#streams) call.write(bytes);
  }

  async answer(nonce: string): Promise<Answer> {
    for (;;) {
      const found = this.answers.find((answer) => answer.nonce === nonce);
      if (found !== undefined) return found;
      await this.#next();
    }
  }

  /** Waits for something to be asked or answered that makes `holds` true. */
  async until(says: string, holds: () => boolean, timeoutMs = 30_000): Promise<void> {
    const endMs = performance.now() + timeoutMs;
    while (!holds()) {
      if (performance.now() > endMs)
        throw new Error(`never: ${says}; answers ${JSON.stringify(this.answers.slice(-5))}`);
      await this.#next(100);
    }
  }

  resource(list: List, name: string): { readonly version: string; readonly bytes: Buffer } | undefined {
    return this.#resources.get(list)?.get(name);
  }

  all(list: List): ReadonlyMap<string, { readonly version: string; readonly bytes: Buffer }> {
    return this.#resources.get(list) ?? new Map();
  }

  get version(): string {
    return String(this.#version);
  }

  #next(timeoutMs?: number): Promise<void> {
    return new Promise((resolve) => {
      const changed = (): void => {
        clearTimeout(timer);
        this.#events.off('change', changed);
        resolve();
      };
      const timer = timeoutMs === undefined ? undefined : setTimeout(changed, timeoutMs);
      this.#events.on('change', changed);
    });
  }

  #open(call: Duplex, protocol: 'delta' | 'sotw'): void {
    const stream = new ClientStream(this, call, protocol);
    this.#streams.add(stream);
    this.tokens.push(call.metadata.get('authorization')[0]?.toString());
    call.on('data', (bytes: Buffer) => {
      stream.receive(bytes);
      this.#events.emit('change');
    });
    const end = (): void => {
      this.#streams.delete(stream);
      this.#events.emit('change');
      if (!call.writableEnded) call.end();
    };
    call.on('end', end);
    call.on('error', end);
    call.on('cancelled', end);
    this.#events.emit('change');
  }
}

export interface RawResource {
  readonly name: string;
  readonly version?: string;
  readonly typeUrl: string;
  readonly bytes: Buffer;
}

class ClientStream {
  readonly call: Duplex;
  readonly names = new Map<List, Set<string>>();
  readonly #ads: AdsServer;
  readonly #protocol: 'delta' | 'sotw';
  /** By list and name, the version that was sent or that the client says it has. */
  readonly #sent = new Map<string, string>();
  static #nonce = 0;

  constructor(ads: AdsServer, call: Duplex, protocol: 'delta' | 'sotw') {
    this.#ads = ads;
    this.call = call;
    this.#protocol = protocol;
  }

  receive(bytes: Buffer): void {
    const isDelta = this.#protocol === 'delta';
    const { node, ...request } = decode(isDelta ? DELTA_REQUEST : SOTW_REQUEST, bytes);
    if (node !== undefined) this.#ads.nodes.push(node as Json);
    const list = (Object.keys(TYPES) as List[]).find(
      (key) => request['type_url'] === `type.googleapis.com/${TYPES[key]}`,
    );
    if (list === undefined) throw new Error(`asked for ${String(request['type_url'])}`);
    const detail = request['error_detail'] as { message?: string } | undefined;
    const nonce = request['response_nonce'] as string | undefined;
    if (nonce !== undefined) this.#ads.answers.push({ list, nonce, error: detail?.message });
    const isNew = !this.names.has(list);
    const before = this.names.get(list) ?? new Set<string>();
    const now = new Set(before);
    if (isDelta) {
      for (const name of (request['resource_names_subscribe'] as string[] | undefined) ?? []) now.add(name);
      for (const name of (request['resource_names_unsubscribe'] as string[] | undefined) ?? []) now.delete(name);
      const has = (request['initial_resource_versions'] as Record<string, string> | undefined) ?? {};
      for (const [name, version] of Object.entries(has)) this.#sent.set(`${list} ${name}`, version);
    } else {
      now.clear();
      for (const name of (request['resource_names'] as string[] | undefined) ?? []) now.add(name);
    }
    this.names.set(list, now);
    const asksMore = isNew || [...now].some((name) => !before.has(name));
    if (!asksMore && (nonce !== undefined || isDelta)) {
      if (nonce === undefined) this.#ads.asked.push({ list, request });
      return;
    }
    this.#ads.asked.push({ list, request });
    if (this.#ads.mute.has(list)) return;
    if (!this.#ads.answersByItself && list !== 'clusters' && list !== 'listeners') return;
    const wanted =
      now.size === 0 || (isNew && now.has('*'))
        ? [...this.#ads.all(list).keys()]
        : [...now].filter((name) => isNew || !before.has(name));
    const missing = wanted.filter((name) => this.#ads.resource(list, name) === undefined);
    const there = wanted.filter((name) => {
      const version = this.#ads.resource(list, name)?.version;
      return version !== undefined && this.#sent.get(`${list} ${name}`) !== version;
    });
    // What the client had and this server does not.
    const stale = [...this.#sent.keys()]
      .filter((key) => key.startsWith(`${list} `))
      .map((key) => key.slice(list.length + 1))
      .filter((name) => this.#ads.resource(list, name) === undefined);
    this.send(list, there, isDelta ? [...new Set([...missing, ...stale])] : []);
  }

  /** @returns the nonce; undefined: it did not ask for this type. */
  send(list: List, names: readonly string[], gone: readonly string[]): string | undefined {
    const asked = this.names.get(list);
    if (asked === undefined) return undefined;
    const given =
      this.#protocol === 'sotw'
        ? [...this.#ads.all(list).keys()].filter((name) => asked.size === 0 || asked.has(name))
        : names.filter((name) => asked.size === 0 || asked.has('*') || asked.has(name));
    const resources = given.map((name) => {
      const { version, bytes } = this.#ads.resource(list, name) as { version: string; bytes: Buffer };
      this.#sent.set(`${list} ${name}`, version);
      return { name, version, typeUrl: `type.googleapis.com/${TYPES[list]}`, bytes };
    });
    return this.sendRaw(list, resources, gone);
  }

  sendRaw(list: List, resources: readonly RawResource[], removed: readonly string[]): string {
    const nonce = `n${++ClientStream.#nonce}`;
    this.call.write(
      this.#protocol === 'delta'
        ? deltaResponse(list, this.#ads.version, nonce, resources, removed)
        : sotwResponse(list, this.#ads.version, nonce, resources),
    );
    return nonce;
  }
}

const DELTA_REQUEST = 'envoy.service.discovery.v3.DeltaDiscoveryRequest';
const SOTW_REQUEST = 'envoy.service.discovery.v3.DiscoveryRequest';

/** Written by hand: a resource that nobody can encode goes out too. */
function deltaResponse(
  list: List,
  version: string,
  nonce: string,
  resources: readonly RawResource[],
  removed: readonly string[],
): Buffer {
  return Buffer.concat([
    text(1, version),
    ...resources.map((resource) =>
      bytes(
        2,
        Buffer.concat([
          text(1, resource.version ?? version),
          bytes(2, Buffer.concat([text(1, resource.typeUrl), bytes(2, resource.bytes)])),
          text(3, resource.name),
        ]),
      ),
    ),
    text(4, `type.googleapis.com/${TYPES[list]}`),
    text(5, nonce),
    ...removed.map((name) => text(6, name)),
    bytes(7, text(1, 'test-control-plane')),
  ]);
}

function sotwResponse(list: List, version: string, nonce: string, resources: readonly RawResource[]): Buffer {
  return Buffer.concat([
    text(1, version),
    ...resources.map(({ typeUrl, bytes: content }) => bytes(2, Buffer.concat([text(1, typeUrl), bytes(2, content)]))),
    text(4, `type.googleapis.com/${TYPES[list]}`),
    text(5, nonce),
    bytes(6, text(1, 'test-control-plane')),
  ]);
}

export function text(field: number, value: string): Buffer {
  return bytes(field, Buffer.from(value));
}

export function bytes(field: number, value: Buffer): Buffer {
  return Buffer.concat([varint(field * 8 + 2), varint(value.length), value]);
}

export function varint(value: number): Buffer {
  const out: number[] = [];
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    if (rest < 128) return Buffer.from([...out, rest]);
    out.push((rest % 128) | 0x80);
  }
}

export function encode(typeName: string, json: Json): Buffer {
  const type = descriptors().getMessage(typeName);
  if (type === undefined) throw new Error(`no descriptor of ${typeName}`);
  return Buffer.from(toBinary(type, fromJson(type, json as JsonValue, { registry: descriptors() })));
}

function decode(typeName: string, content: Buffer): Json {
  const type = descriptors().getMessage(typeName);
  if (type === undefined) throw new Error(`no descriptor of ${typeName}`);
  return toJson(type, fromBinary(type, content), { registry: descriptors(), useProtoFieldName: true }) as Json;
}
