/** One request by node:http, for tests that look at the answer only. */
import { request } from 'node:http';

export interface TextAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: string;
}

/** GET on 127.0.0.1, on a connection of its own. */
export function fetchText(
  port: number,
  path: string,
  headers: Readonly<Record<string, string>> = {},
): Promise<TextAnswer> {
  return new Promise((resolve, reject) => {
    const sent = request({ host: '127.0.0.1', port, path, headers, agent: false }, (response) => {
      let body = '';
      response.setEncoding('utf8');
      response.on('data', (text: string) => {
        body += text;
      });
      response.on('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, body }));
      response.on('error', reject);
    });
    sent.on('error', reject);
    sent.end();
  });
}
