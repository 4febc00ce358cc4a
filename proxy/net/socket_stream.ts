/**
 * A TCP or unix socket as a ByteStream. All sockets of a thread read into one shared buffer; small writes are joined
 * and leave once per read event.
 */
import { Socket } from 'node:net';
import { failures, type Failure } from '../failures.ts';
import type { FlushingByteStream } from './byte_stream.ts';
import type { ConnectionInfo } from './connection_info.ts';
import { roundPause } from './round_pause.ts';
import { resetSocket } from './socket_options.ts';

const READ_BYTES = 65_536;
/** Of a buffer for streaming bodies: fewer, larger reads and writes per megabyte. */
const BULK_BUFFER_BYTES = 262_144;
/** So many of them a thread, 32 MB; whoever comes when all are lent gets one of READ_BYTES that is not kept. */
const MAX_BULK_BUFFERS = 128;
/** A read of this size means a body is streaming: the socket gets a buffer of its own, which writes may keep. */
const BULK_BYTES = 32_768;
/** A read below this size means the body is over: back to the shared buffer. */
const BULK_END_BYTES = 8_192;
/** Up to this size a chunk is joined to what is pending; larger ones go out as the buffers they are. */
const JOIN_BYTES = 16_384;
/** Above this much unsent the writer is told to wait. */
const HIGH_WATERMARK_BYTES = 65_536;

const nothing = (): void => {};

/** Bytes are borrowed from here until the callback returns. */
const sharedBuffer = Buffer.allocUnsafeSlow(READ_BYTES);

/** The private buffer whose bytes are being handed out right now: a write may keep them if it says so. */
let lentBuffer: LentBuffer | undefined;
interface LentBuffer {
  readonly bytes: Buffer;
  /** Writes that still hold some of it. */
  writes: number;
  /** A write that ended otherwise than well: nobody can say who still looks at it. */
  spoilt: boolean;
  /** No longer read into: it goes back to the pool with its last write. */
  retired: boolean;
}

const bulkPool: Buffer[] = [];
let bulkBuffers = 0;

function lendBulkBuffer(): LentBuffer {
  let bytes = bulkPool.pop();
  if (bytes === undefined) {
    const small = bulkBuffers >= MAX_BULK_BUFFERS;
    if (!small) bulkBuffers++;
    bytes = Buffer.allocUnsafeSlow(small ? READ_BYTES : BULK_BUFFER_BYTES);
  }
  return { bytes, writes: 0, spoilt: false, retired: false };
}

/** Once when it is read into no more, and with each of its writes that ends after that. */
function retireBulkBuffer(lent: LentBuffer): void {
  lent.retired = true;
  if (lent.writes > 0 || lent.bytes.length < BULK_BUFFER_BYTES) return;
  if (lent.spoilt) bulkBuffers--;
  else bulkPool.push(lent.bytes);
}

/** Streams with something to send, flushed when the outermost read event ends. */
let dirty: SocketStream[] = [];
let eventDepth = 0;
let flushScheduled = false;
/** Tests set it: every borrowed buffer is overwritten once its callback has returned. */
let poison = false;

/** When the running event first asked for the time; −1: not yet. */
let eventMs = -1;

/** Monotonic milliseconds. One event sees one time: a dozen timestamps a request cost one look at the clock. */
export function eventNowMs(): number {
  if (eventDepth === 0) return performance.now();
  if (eventMs < 0) eventMs = performance.now();
  return eventMs;
}

/** Views of the shared buffer's beginning by their length: nearly all reads are short and of a few lengths. */
const sharedViews: (Buffer | undefined)[] = [];
const MAX_VIEW_BYTES = 4096;

function sharedView(size: number): Buffer {
  if (size > MAX_VIEW_BYTES) return sharedBuffer.subarray(0, size);
  let view = sharedViews[size];
  if (view === undefined) {
    view = sharedBuffer.subarray(0, size);
    sharedViews[size] = view;
  }
  return view;
}

function endEvent(): void {
  if (--eventDepth > 0) return;
  flushDirty();
  eventMs = -1;
}

/** For tests: overwrites each read buffer after use, so that whoever kept a view of it is found out. */
export function poisonReadBuffers(on: boolean): void {
  poison = on;
}

/** Runs `work` as one event: what it writes leaves together when it returns. */
export function asOneEvent(work: () => void): void {
  eventDepth++;
  try {
    work();
  } finally {
    endEvent();
  }
}

function flushDirty(): void {
  flushScheduled = false;
  while (dirty.length > 0) {
    const streams = dirty;
    dirty = [];
    for (const stream of streams) stream.flush();
  }
}

/**
 * Streams whose users keep their output (HTTP/2), flushed when the loop has been round all sockets that were ready: what
 * 32 clients asked in one round goes to their one upstream connection in one write.
 */
let late: SocketStream[] = [];
let lateScheduled = false;
let lateSinceMs = 0;

function flushLate(): void {
  lateScheduled = false;
  const streams = late;
  late = [];
  for (const stream of streams) stream.flushNow();
  roundPause.roundOver(lateSinceMs);
}

/** What `onread` of node:net wants; made before the socket exists, bound to the stream afterwards. */
export class ReadTarget {
  readonly buffer: () => Uint8Array | undefined;
  readonly callback: (size: number, buffer: Uint8Array) => boolean;
  stream: SocketStream | undefined = undefined;
  #started = false;

  constructor() {
    this.buffer = () => {
      if (this.#started) return this.stream?.nextBuffer();
      this.#started = true;
      return sharedBuffer;
    };
    this.callback = (size, buffer) => {
      this.stream?.received(size, buffer as Buffer);
      return true;
    };
  }
}

type BufferKeys = Readonly<Record<'kBuffer' | 'kBufferGen' | 'kBufferCb', symbol>>;
let bufferKeys: BufferKeys | undefined | 'unknown' = 'unknown';

/** Where node:net keeps what `onread` says; undefined: not where we look. */
function onreadKeys(): BufferKeys | undefined {
  if (bufferKeys === 'unknown') {
    const target = new ReadTarget();
    const onread = { buffer: target.buffer as () => Uint8Array, callback: target.callback };
    const symbols = Object.getOwnPropertySymbols(new Socket({ onread } as ConstructorParameters<typeof Socket>[0]));
    const find = (name: string): symbol | undefined => symbols.find(({ description }) => description === name);
    const [kBuffer, kBufferGen, kBufferCb] = ['kBuffer', 'kBufferGen', 'kBufferCb'].map(find);
    bufferKeys = kBuffer && kBufferGen && kBufferCb ? { kBuffer, kBufferGen, kBufferCb } : undefined;
  }
  return bufferKeys;
}

/**
 * Makes a TLS socket that lies over another one read into the shared buffer, which node:tls offers only for sockets
 * that it connects itself. Nothing was read yet. undefined: not possible here, 'data' will do.
 */
export function readIntoSharedBuffer(socket: Socket): ReadTarget | undefined {
  const keys = onreadKeys();
  const { _handle: handle } = socket as Socket & { _handle?: { useUserBuffer?(buffer: Uint8Array): void } | null };
  if (keys === undefined || typeof handle?.useUserBuffer !== 'function') return undefined;
  const target = new ReadTarget();
  const first = target.buffer();
  if (first === undefined) return undefined;
  Object.assign(socket, {
    [keys.kBuffer]: first,
    [keys.kBufferGen]: target.buffer,
    [keys.kBufferCb]: target.callback,
  });
  handle.useUserBuffer(first);
  return target;
}

/** Takes something from the beginning of what comes. */
export interface FirstBytes {
  /** `bytes` are borrowed. @returns what is left; undefined: nothing yet. */
  take(bytes: Buffer): Buffer | undefined;
  readonly isOver: boolean;
}

/** −1 when the socket has none. */
export function descriptorOf(socket: Socket): number {
  const handle = (socket as Socket & { _handle?: { readonly fd?: number } | null })._handle;
  return handle?.fd ?? -1;
}

export class SocketStream implements FlushingByteStream {
  readonly info: ConnectionInfo;
  onData: (bytes: Buffer) => void = nothing;
  onEnd: () => void = nothing;
  onClose: (failure: Failure | undefined) => void = nothing;
  onDrain: () => void = nothing;
  onFlush: () => void = nothing;
  readonly #socket: Socket;
  /** What a reset is sent on: the socket below where `#socket` is TLS over it. */
  readonly #carrier: Socket;
  #pending = '';
  #isDirty = false;
  #isLate = false;
  #readHolders = 0;
  #needDrain = false;
  #ended = false;
  #endWanted = false;
  #closed = false;
  #failure: Failure | undefined = undefined;
  #lent: LentBuffer | undefined = undefined;
  #lastReadBytes = 0;
  #first: FirstBytes | undefined = undefined;
  readonly #isUnix: boolean;

  /**
   * `socket` was made with `target` as its `onread`, or emits 'data' (TLS, the fallback) when there is no target.
   * `carrier`: the TCP socket below a TLS one.
   */
  constructor(socket: Socket, info: ConnectionInfo, target: ReadTarget | undefined, carrier: Socket = socket) {
    this.#socket = socket;
    this.#carrier = carrier;
    this.info = info;
    info.carrier = this;
    this.#isUnix = (info.directRemoteAddress ?? info.remoteAddress).port === 0;
    if (target !== undefined) target.stream = this;
    else socket.on('data', (bytes: Buffer) => this.received(bytes.length, bytes));
    socket.on('end', () => {
      if (this.#closed) return;
      this.#ended = true;
      asOneEvent(() => this.onEnd());
    });
    socket.on('drain', () => {
      this.#needDrain = false;
      asOneEvent(() => this.onDrain());
    });
    socket.on('error', (error: NodeJS.ErrnoException) => {
      this.info.transportFailureReason ??= error.message;
      if (error.code === 'ECONNRESET' || error.code === 'EPIPE') this.info.closeType ??= 'RemoteReset';
      this.#failure = error.code === 'ECONNRESET' ? failures.upstreamRemoteReset : failures.upstreamTermination;
    });
    socket.on('close', () => {
      if (this.#closed) return;
      this.#closed = true;
      this.info.endMs = eventNowMs();
      if (this.#lent !== undefined) retireBulkBuffer(this.#lent);
      this.#lent = undefined;
      asOneEvent(() => this.onClose(this.#failure));
    });
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** The peer has sent its end. */
  get ended(): boolean {
    return this.#ended;
  }

  /** For options of the socket that only its owner sets. */
  get socket(): Socket {
    return this.#socket;
  }

  /** The socket's descriptor, for options by ffi; −1 when it has none. */
  get descriptor(): number {
    return descriptorOf(this.#carrier);
  }

  write(bytes: Buffer | string): boolean {
    if (this.#closed) return true;
    if (typeof bytes === 'string') this.#pending += bytes;
    else if (bytes.length <= JOIN_BYTES) this.#pending += bytes.latin1Slice(0, bytes.length);
    else return this.#writeLarge(bytes);
    if (this.#pending.length >= HIGH_WATERMARK_BYTES) this.flush();
    else this.#markDirty();
    return !this.#needDrain;
  }

  flushSoon(): void {
    if (this.#isLate) return;
    this.#isLate = true;
    late.push(this);
    if (lateScheduled) return;
    lateScheduled = true;
    lateSinceMs = eventNowMs();
    setImmediate(flushLate);
  }

  /** From the end of the loop's round. */
  flushNow(): void {
    this.#isLate = false;
    if (!this.#closed) this.flush();
  }

  writeOwned(bytes: Buffer): 0 | 1 | 2 {
    if (this.#closed) return 0;
    const socket = this.#socket;
    // Small output that waits takes its own room, not a whole buffer's. TLS keeps all output until a later tick.
    if (bytes.length < JOIN_BYTES && (socket !== this.#carrier || socket.writableLength > 0)) {
      if (socket.write(Buffer.from(bytes))) return 0;
      this.#needDrain = true;
      return 2;
    }
    const taken = socket.write(bytes);
    if (socket.writableLength === 0) return 0;
    if (taken) return 1;
    this.#needDrain = true;
    return 2;
  }

  /** Sends what is pending now. */
  flush(): void {
    this.#isDirty = false;
    if (this.#pending !== '') {
      const text = this.#pending;
      this.#pending = '';
      if (!this.#closed && !this.#socket.write(text, 'latin1')) this.#needDrain = true;
    }
    this.onFlush();
    if (this.#endWanted) {
      this.#endWanted = false;
      this.#socket.end();
    }
  }

  readDisable(disabled: boolean): void {
    if (disabled) {
      if (this.#readHolders++ === 0) this.#socket.pause();
    } else if (--this.#readHolders === 0 && !this.#closed) this.#socket.resume();
  }

  endWrite(): void {
    this.#endWanted = true;
    this.#markDirty();
  }

  close(how: 'flush' | 'reset'): void {
    if (this.#closed) return;
    if (how === 'reset') {
      this.#pending = '';
      this.#endWanted = false;
      this.info.closeType ??= 'LocalReset';
      // Unix sockets know no RST.
      if (this.#isUnix) this.#carrier.destroy();
      else resetSocket(this.#carrier, this.descriptor);
      return;
    }
    this.flush();
    this.#socket.destroySoon();
  }

  /**
   * Lets the socket go, paused: for a transport socket that lies over it. Bytes that arrive later are not told here any
   * more, and neither are end and close; errors are swallowed, so that one without another listener ends nobody.
   */
  release(): Socket {
    this.flush();
    this.#socket.pause();
    this.#closed = true;
    if (this.#lent !== undefined) retireBulkBuffer(this.#lent);
    this.#lent = undefined;
    return this.#socket;
  }

  /** Before the first byte is read: what comes first is for somebody else. */
  takeFirst(first: FirstBytes): void {
    this.#first = first;
  }

  /** Called by the read target. */
  received(size: number, buffer: Buffer): void {
    if (this.#closed) return;
    let bytes = buffer === sharedBuffer ? sharedView(size) : buffer.subarray(0, size);
    if (this.#first !== undefined) {
      const rest = this.#first.take(bytes);
      if (this.#first.isOver) this.#first = undefined;
      if (rest === undefined) return;
      bytes = rest;
    }
    const outer = lentBuffer;
    lentBuffer = this.#lent;
    eventDepth++;
    try {
      this.onData(bytes);
    } finally {
      endEvent();
      lentBuffer = outer;
    }
    if (poison && (this.#lent === undefined || this.#lent.writes === 0)) bytes.fill(0xdd);
    this.#lastReadBytes = size;
  }

  /** The buffer for the next read; undefined: the one it has. */
  nextBuffer(): Buffer | undefined {
    const lent = this.#lent;
    if (lent === undefined) {
      if (this.#lastReadBytes < BULK_BYTES) return undefined;
    } else if (this.#lastReadBytes < BULK_END_BYTES) {
      this.#lent = undefined;
      retireBulkBuffer(lent);
      return sharedBuffer;
    } else {
      if (lent.writes === 0) return undefined;
      retireBulkBuffer(lent);
    }
    this.#lent = lendBulkBuffer();
    return this.#lent.bytes;
  }

  #markDirty(): void {
    if (this.#isDirty) return;
    this.#isDirty = true;
    dirty.push(this);
    if (eventDepth === 0 && !flushScheduled) {
      flushScheduled = true;
      process.nextTick(flushDirty);
    }
  }

  #writeLarge(bytes: Buffer): boolean {
    this.flush();
    const lent = lentBuffer !== undefined && lentBuffer.bytes.buffer === bytes.buffer ? lentBuffer : undefined;
    let taken: boolean;
    if (lent === undefined) taken = this.#socket.write(Buffer.from(bytes));
    else {
      // The callback comes in a later tick, also where the kernel took all at once: those count as done here.
      lent.writes++;
      let counted = true;
      taken = this.#socket.write(bytes, (error) => {
        if (!counted) return;
        lent.writes--;
        if (error != null) lent.spoilt = true;
        if (lent.retired) retireBulkBuffer(lent);
      });
      if (this.#socket.writableLength === 0) {
        counted = false;
        lent.writes--;
      }
    }
    if (!taken) this.#needDrain = true;
    return taken;
  }
}
