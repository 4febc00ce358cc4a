/** /logging: levels of Pillion's own log, asked for and answered as Envoy does, so that `istioctl proxy-config log` works. */
import { LOG_COMPONENTS, LOG_LEVELS } from '../telemetry/log.ts';
import { parseLogLevel } from '../telemetry/logger.ts';
import { type AdminEndpoint, type AdminState, text } from './state.ts';

const USAGE = `usage: /logging?<name>=<level> (change single level)
usage: /logging?paths=name1:level1,name2:level2,... (change multiple levels)
usage: /logging?level=<level> (change all levels)
usage: /logging?group=<group_name>:<level> (change group of loggers)
levels: ${LOG_LEVELS.join(' ')} \n`;

export const logging: AdminEndpoint = {
  path: '/logging',
  help: 'query/change logging levels',
  parameters: {
    paths:
      'Change multiple logging levels by setting to <logger_name1>:<desired_level1>,<logger_name2>:<desired_level2>',
    group: 'Change given logger to desired level, set to <logger_name>:<desired_level>',
    level: `desired logging level, this will change all loggers's level; One of (${LOG_LEVELS.join(', ')})`,
  },
  mutates: true,
  answer(state, query) {
    const refusal = change(state, [...query]);
    if (refusal !== undefined) return text(`error: ${refusal}\n\n${USAGE}${active(state)}`, 400);
    return text(active(state));
  },
};

/** All or nothing. @returns a complaint. */
function change(state: AdminState, parameters: readonly (readonly [string, string])[]): string | undefined {
  const [first] = parameters;
  if (first === undefined) return undefined;
  if (parameters.length > 1) return 'invalid number of parameters';
  const [name, value] = first;
  if (name === 'level') return set(state, [[undefined, value]]);
  // Envoy lists what holds.
  if (name === 'paths' && value === '') return undefined;
  if (name !== 'paths' && name !== 'group') return set(state, [[name, value]]);
  const pairs = value.split(',').filter(Boolean);
  const split = pairs.map((pair): readonly [string, string] => {
    const colon = pair.lastIndexOf(':');
    return [pair.slice(0, Math.max(0, colon)), pair.slice(colon + 1)];
  });
  return split.length === 0 || split.some(([component]) => component === '')
    ? 'empty logger name or empty logger level'
    : set(state, split);
}

function set(state: AdminState, wanted: readonly (readonly [string | undefined, string])[]): string | undefined {
  for (const [component, level] of wanted) {
    if (component !== undefined && !LOG_COMPONENTS.includes(component)) return 'unknown logger name';
    if (parseLogLevel(level) === undefined) return 'unknown logger level';
  }
  for (const [component, text] of wanted) {
    const level = parseLogLevel(text);
    if (level !== undefined) state.setLogLevel(level, component);
  }
  return undefined;
}

function active({ options: { log } }: AdminState): string {
  const levels = log.levels?.() ?? new Map();
  const all = levels.get('') ?? 'info';
  const lines = LOG_COMPONENTS.map((name) => `  ${name}: ${levels.get(name) ?? all}\n`);
  return `active loggers:\n${lines.join('')}\n`;
}
