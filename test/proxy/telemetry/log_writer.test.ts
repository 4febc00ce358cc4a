/** Access-log files and streams under strain: rotation, a full disk, a reader that stops reading. */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { before, test } from 'node:test';
import { Aggregate } from '../../../proxy/telemetry/aggregate.ts';
import { LogWriter } from '../../../proxy/telemetry/log_writer.ts';
import { httpListener, routeConfig, staticCluster } from '../../support/envoy_resources.ts';
import { answering, RawUpstream } from '../../support/raw_peers.ts';
import { startTestProxy } from '../../support/running_proxy.ts';
import { fileScope } from '../../support/scope.ts';

const scope = fileScope();
let folder: string;

before(() => {
  folder = mkdtempSync(join(tmpdir(), 'pillion-writer-'));
  scope.after(() => rmSync(folder, { recursive: true, force: true }));
});

function writer(): { writer: LogWriter; errors: string[]; aggregate: Aggregate } {
  const aggregate = new Aggregate();
  const errors: string[] = [];
  return {
    aggregate,
    errors,
    writer: new LogWriter(aggregate.own, (path, error) => errors.push(`${path}: ${error.message}`)),
  };
}

const written = (log: LogWriter, path: string, text: string): Promise<void> =>
  new Promise((resolve) => log.write(path, Buffer.from(text), resolve));

test('a file that was moved away is opened anew, also while a write is under way', async () => {
  const { writer: log } = writer();
  const path = join(folder, 'rotated.log');
  await written(log, path, 'one\n');
  renameSync(path, `${path}.1`);
  const second = written(log, path, 'two\n');
  log.reopen();
  await second;
  await written(log, path, 'three\n');
  assert.equal(readFileSync(`${path}.1`, 'utf8'), 'one\ntwo\n');
  assert.equal(readFileSync(path, 'utf8'), 'three\n');
});

test('a full disk loses lines, is counted, and is complained about once', async () => {
  const { writer: log, errors, aggregate } = writer();
  for (let i = 0; i < 50; i++) await written(log, '/dev/full', 'lost\n');
  assert.equal(aggregate.value('filesystem.write_failed'), 50);
  assert.equal(aggregate.value('filesystem.write_total_buffered'), 0);
  assert.equal(errors.length, 1);
  assert.match(errors[0] ?? '', /ENOSPC/);
});

test('a path that cannot be opened is complained about, and costs nothing else', async () => {
  const { writer: log, errors, aggregate } = writer();
  await written(log, join(folder, 'no', 'such', 'folder'), 'lost\n');
  assert.equal(aggregate.value('filesystem.write_failed'), 1);
  assert.match(errors[0] ?? '', /ENOENT/);
});

test('a FIFO that nobody reads blocks neither opening, nor writing, nor the end', async () => {
  const { writer: log, aggregate } = writer();
  const fifo = join(folder, 'fifo');
  execFileSync('mkfifo', [fifo]);
  await written(log, fifo, 'nobody\n');
  assert.equal(aggregate.value('filesystem.write_failed'), 1);
  // A reader that opens it and then sleeps: the pipe takes 64 KB and no more.
  const reader = spawn('sh', ['-c', `exec 3<"${fifo}"; echo; exec sleep 60 >/dev/null`], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  scope.after(() => reader.kill('SIGKILL'));
  // It opens only when somebody writes; we open without waiting, and try until it is there.
  while (aggregate.value('filesystem.write_completed') === 0) await written(log, fifo, 'hello\n');
  let settled = 0;
  for (let i = 0; i < 100; i++) log.write(fifo, Buffer.alloc(4096, 'x'), () => settled++);
  const lost = await log.drain(300);
  assert.ok(settled > 0 && settled < 100, `${settled} were written`);
  assert.ok(lost > 0);
  reader.kill('SIGKILL');
});

test('a stuck log costs no request, and what is dropped is counted', async () => {
  const fifo = join(folder, 'stuck');
  execFileSync('mkfifo', [fifo]);
  const reader = spawn('sh', ['-c', `exec 3<"${fifo}"; exec sleep 60`], { stdio: 'ignore' });
  scope.after(() => reader.kill('SIGKILL'));
  const upstream = await RawUpstream.start(scope, answering());
  const long = 'y'.repeat(30_000);
  const proxy = await startTestProxy(scope, [
    httpListener({
      routes: routeConfig([{ match: { prefix: '/' }, route: { cluster: 'web' } }]),
      manager: {
        access_log: [
          {
            name: 'file',
            typed_config: {
              '@type': 'type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog',
              path: fifo,
              log_format: { text_format_source: { inline_string: `${'%REQ(X-LONG)%'.repeat(20)}\n` } },
            },
          },
        ],
      },
    }),
    staticCluster('web', [upstream.port]),
  ]);
  // 20 × 30 KB a line: 8 MB are outstanding after a dozen requests.
  for (let i = 0; i < 40; i++) {
    const answer = await fetch(`http://127.0.0.1:${proxy.port()}/`, { headers: { 'x-long': long } });
    assert.equal(answer.status, 200);
    await answer.arrayBuffer();
  }
  assert.ok(proxy.value('access_log_file.write_dropped') > 0);
  assert.ok(existsSync(fifo));
  reader.kill('SIGKILL');
});
