/** What a measurement says, and how its columns are shown. */
export type Figures = Readonly<Record<string, number>>;

export interface Column {
  readonly key: string;
  readonly title: string;
  readonly digits: number;
}

/** By kind of work; the first is the one that is plotted and compared. */
export const columns: Readonly<Record<'load' | 'rate' | 'idle' | 'start' | 'reload', readonly Column[]>> = {
  load: [
    { key: 'cpuMicros', title: 'CPU µs/request', digits: 1 },
    { key: 'rps', title: 'requests/s', digits: 0 },
    { key: 'p50Ms', title: 'p50 ms', digits: 2 },
    { key: 'p99Ms', title: 'p99 ms', digits: 2 },
    { key: 'megabytes', title: 'RSS MB', digits: 0 },
    { key: 'errors', title: 'errors', digits: 0 },
  ],
  reload: [
    { key: 'cpuMicros', title: 'CPU µs/request', digits: 1 },
    { key: 'rps', title: 'requests/s', digits: 0 },
    { key: 'p99Ms', title: 'p99 ms', digits: 2 },
    { key: 'reloads', title: 'reloads', digits: 0 },
    { key: 'errors', title: 'errors', digits: 0 },
  ],
  rate: [
    { key: 'p99Ms', title: 'p99 ms', digits: 2 },
    { key: 'p50Ms', title: 'p50 ms', digits: 2 },
    { key: 'p999Ms', title: 'p99.9 ms', digits: 2 },
    { key: 'rps', title: 'requests/s', digits: 0 },
    { key: 'errors', title: 'errors', digits: 0 },
  ],
  idle: [
    { key: 'bytesEach', title: 'bytes each', digits: 0 },
    { key: 'connections', title: 'connections', digits: 0 },
    { key: 'megabytes', title: 'RSS MB', digits: 0 },
  ],
  start: [
    { key: 'readyMs', title: 'ready ms', digits: 0 },
    { key: 'megabytes', title: 'RSS MB', digits: 0 },
    { key: 'peakMegabytes', title: 'peak MB', digits: 0 },
  ],
};
