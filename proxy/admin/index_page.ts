/** The list of admin endpoints: a page for people at /, text at /help. */
import { type AdminAnswer, type AdminEndpoint, escapeText, text } from './state.ts';

/** As Envoy prints it, sorted by path. */
export function helpText(endpoints: readonly AdminEndpoint[]): string {
  const lines = endpoints.map(({ path, help, mutates, parameters = {} }) => {
    const details = Object.entries(parameters).map(([name, says]) => `      ${name}: ${says}\n`);
    return `  ${path}${mutates ? ' (POST)' : ''}: ${help}\n${details.join('')}`;
  });
  return `admin commands are:\n  /: Admin home page\n  /help: print out list of admin commands\n${lines.join('')}`;
}

const STYLE =
  'body{font:14px sans-serif;margin:2em;color:#222}table{border-collapse:collapse}td{padding:4px 12px;vertical-align:top}' +
  'tr+tr td{border-top:1px solid #ddd}button,a{font:13px monospace}span{color:#555}form{margin:0}';

/** Links for what only shows, buttons for what changes something. No script: the policy of the page allows none. */
export function indexPage(endpoints: readonly AdminEndpoint[], title: string): AdminAnswer {
  const rows = endpoints.map(({ path, help, mutates, parameters = {} }) => {
    const list = Object.entries(parameters)
      .map(([name, says]) => `<span title="${escapeText(says)}">${escapeText(name)}</span>`)
      .join(', ');
    const action = mutates
      ? `<form method="post" action="${path}"><button>${path}</button></form>`
      : `<a href="${path}">${path}</a>`;
    return `<tr><td>${action}</td><td>${escapeText(help)}</td><td><small>${list}</small></td></tr>`;
  });
  return {
    status: 200,
    type: 'text/html; charset=UTF-8',
    body:
      `<!doctype html><html lang="en"><title>Pillion admin</title><style>${STYLE}</style><h1>Pillion admin</h1>` +
      `<p>${escapeText(title)}</p><table>${rows.join('')}</table></html>`,
  };
}

export function help(endpoints: readonly AdminEndpoint[]): AdminAnswer {
  return text(helpText(endpoints));
}
