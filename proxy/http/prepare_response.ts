/** What the connection manager does to a response's head after the last filter. Source: Envoy mutateResponseHeaders. */
import { roundPause } from '../net/round_pause.ts';
import type { ConnectionManagerConfig } from './connection_manager_config.ts';
import type { ResponseHeaders } from './headers.ts';

let dateSecond = 0;
let dateText = '';

/** IMF-fixdate of now, made once a second (RFC 9110 §5.6.7). */
function dateAt(epochMs: number): string {
  const second = Math.floor(epochMs / 1000);
  if (second !== dateSecond) {
    dateSecond = second;
    dateText = new Date(second * 1000).toUTCString();
  }
  return dateText;
}

function isHopByHop(name: string): boolean {
  switch (name.charCodeAt(0)) {
    case 99:
      return name === 'connection';
    case 107:
      return name === 'keep-alive';
    case 112:
      return name === 'proxy-connection';
    case 116:
      return name === 'transfer-encoding';
    case 117:
      return name === 'upgrade';
    default:
      return false;
  }
}

const passesOn = (name: string): boolean => !isHopByHop(name);

/** Completes `headers` in place. `nowEpochMs` may be as old as the read event. */
export function prepareResponse(
  headers: ResponseHeaders,
  config: ConnectionManagerConfig,
  nowEpochMs: number,
  requestId: string | undefined,
): void {
  roundPause.streamAnswered();
  const { fields } = headers;
  let hasDate = false;
  let hasServer = false;
  let hasHop = false;
  for (let i = 0; i < fields.length; i += 2) {
    const name = fields[i] as string;
    if (name === 'date') hasDate = true;
    else if (name === 'server') {
      hasServer = true;
      if (config.serverHeader === 'overwrite') fields[i + 1] = config.serverName;
    } else if (isHopByHop(name)) hasHop = true;
  }
  // A switch of protocols keeps the two fields that announce it.
  if (hasHop && headers.status !== 101) headers.filter(passesOn);
  if (!hasDate) fields.push('date', dateAt(nowEpochMs));
  if (!hasServer && config.serverHeader !== 'pass_through') fields.push('server', config.serverName);
  if (config.via !== '') headers.append('via', config.via);
  if (config.alwaysSetRequestIdInResponse && requestId !== undefined) headers.set('x-request-id', requestId);
}
