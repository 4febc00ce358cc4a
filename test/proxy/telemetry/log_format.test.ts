/** application_log_config: what Pillion's own lines look like, and which placeholders are refused. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseApplicationLog, parseLogFormat } from '../../../proxy/telemetry/log_format.ts';
import { LeveledLogger } from '../../../proxy/telemetry/logger.ts';

function lines(
  json: unknown,
): (level: 'info' | 'warning', message: string, fields?: Record<string, unknown>) => string {
  const written: string[] = [];
  const log = new LeveledLogger('info', { text: true, write: (line) => written.push(line) });
  log.format = parseApplicationLog(json);
  return (level, message, fields) => {
    log.log(level, 'main', message, fields);
    return written.pop() ?? '';
  };
}

test('lines are JSON as pilot-agent asks for with --log_as_json', () => {
  const write = lines({
    log_format: {
      json_format: { level: '%l', time: '%Y-%m-%dT%T.%fZ', scope: 'envoy %n', msg: '%j', nested: { kept: 1, n: '%L' } },
    },
  });
  const line = JSON.parse(write('warning', 'he said "no"\n', { port: 1 })) as Record<string, unknown>;
  assert.match(String(line['time']), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/);
  assert.deepEqual(
    { ...line, time: '' },
    { level: 'warning', time: '', scope: 'envoy main', msg: 'he said "no"\n {"port":1}', nested: { kept: 1, n: 'W' } },
  );
});

test('a text format has one line a record, whatever is in it', () => {
  const write = lines({ log_format: { text_format: '[%l][%n] 100%% %v' } });
  assert.equal(write('info', 'one\ntwo'), '[info][main] 100% one\\x0atwo\n');
});

test('without a format, lines are as before', () => {
  assert.equal(parseApplicationLog(undefined), undefined);
  assert.match(lines({})('info', 'm'), /^\S+ info main m\n$/);
});

test('a placeholder that means nothing is refused by name', () => {
  assert.throws(() => parseApplicationLog({ log_format: { text_format: '%v %q' } }), {
    name: 'ConfigError',
    message: 'application_log_config.log_format.text_format: the placeholder "%q" is not supported',
  });
});

test('--log-format is spdlog’s: pilot-agent’s own, and placeholders that nobody knows stand as they are', () => {
  const written: string[] = [];
  const log = new LeveledLogger('info', { text: false, write: (line) => written.push(line) });
  log.format = parseLogFormat('%Y-%m-%dT%T.%fZ\t%l\tenvoy %n %g:%#\t%v\tthread=%t');
  log.log('warning', 'main', 'one\ttwo\nthree');
  assert.match(
    written[0] ?? '',
    /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z\twarning\tenvoy main :\tone\ttwo\\x0athree\tthread=\d+\n$/,
  );
  log.format = parseLogFormat('%q %v 100%');
  log.log('info', 'main', 'm');
  assert.equal(written[1], '%q m 100%\n');
});
