/** Spans as data, and their ids. */
import type { TracerConfig } from './tracing_config.ts';

/** A finished span as it travels from a data thread to the control thread: plain, flat, small. */
export interface SpanRecord {
  /** 32 hex digits. */
  readonly traceId: string;
  /** 16 hex digits. */
  readonly spanId: string;
  /** '' for the root of a trace. */
  readonly parentSpanId: string;
  readonly traceState: string;
  readonly name: string;
  readonly kind: 'server' | 'client';
  /** Epoch milliseconds, with fractions. */
  readonly startMs: number;
  readonly endMs: number;
  readonly failed: boolean;
  /** name, value, name, value, … */
  readonly attributes: readonly (string | number | boolean)[];
}

/** Where finished spans go. */
export interface SpanSink {
  add(tracer: TracerConfig, span: SpanRecord): void;
}

/** What a request carries from one proxy to the next. */
export interface TraceContext {
  traceId: string;
  spanId: string;
  parentSpanId: string;
  sampled: boolean;
  traceState: string;
}

const HEX: readonly string[] = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'));

/** 16 random hex digits, never all zero. */
export function randomSpanId(random: () => number): string {
  const a = (random() * 0x1_0000_0000) >>> 0;
  const b = ((random() * 0x1_0000_0000) >>> 0) | 1;
  return hex32(a) + hex32(b);
}

/** 32 random hex digits, never all zero. */
export function randomTraceId(random: () => number): string {
  return randomSpanId(random) + randomSpanId(random);
}

function hex32(value: number): string {
  return `${HEX[value >>> 24]}${HEX[(value >>> 16) & 255]}${HEX[(value >>> 8) & 255]}${HEX[value & 255]}`;
}
