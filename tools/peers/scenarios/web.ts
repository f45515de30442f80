// DICOMweb and the API of a deployment, as little of them as a client needs. No connection is shared unless that is asked for.
import assert from 'node:assert/strict';
import { Agent, request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { JsonDataSet } from '#dicom/json.ts';
import { partsOf } from '../dicomweb.testing.ts';
import { stowRequest } from '../stow-request.ts';
import type { Deployment } from './deployment.ts';
import type { Sent } from './material.ts';

export const AS_STORED = 'application/dicom; transfer-syntax=*';
export const ALL_AS_STORED = `multipart/related; type="application/dicom"; transfer-syntax=*`;
const JSON_TYPE = 'application/dicom+json';

export interface Answer {
  status: number;
  headers: Record<string, string | string[] | undefined>;
  body: Buffer;
}
export interface Asking {
  method?: string;
  headers?: Record<string, string>;
  body?: Uint8Array | undefined;
  /** Without one, a connection of its own: whichever process takes it. */
  agent?: Agent;
}

export type Web = ReturnType<typeof webOf>;

export const pathOf = ({ study, series, sop }: { study: string; series?: string; sop?: string }): string =>
  `/studies/${study}${series === undefined ? '' : `/series/${series}`}${sop === undefined ? '' : `/instances/${sop}`}`;

export function webOf(deployment: Deployment) {
  const dicomWeb = `${deployment.http}/dicom-web`;

  function ask(url: string, { method = 'GET', headers = {}, body, agent }: Asking = {}): Promise<Answer> {
    const send = url.startsWith('https:') ? httpsRequest : httpRequest;
    const authorization = deployment.token === '' ? {} : { Authorization: `Bearer ${deployment.token}` };
    return new Promise((resolve, reject) => {
      const request = send(
        url,
        { method, headers: { ...authorization, ...headers }, agent: agent ?? false },
        (from) => {
          const chunks: Buffer[] = [];
          from.on('data', (chunk: Buffer) => chunks.push(chunk));
          from.once('error', reject);
          from.once('end', () =>
            resolve({ status: from.statusCode!, headers: from.headers, body: Buffer.concat(chunks) }),
          );
        },
      );
      request.once('error', reject);
      request.end(body);
    });
  }

  async function json<T>(url: string, asking: Asking = {}): Promise<T> {
    const answer = await ask(url, { ...asking, headers: { Accept: JSON_TYPE, ...asking.headers } });
    assert.equal(answer.status, 200, answer.body.toString());
    return JSON.parse(answer.body.toString()) as T;
  }

  return {
    ask,
    dicomWeb,
    get: (path: string, accept: string, asking: Asking = {}) =>
      ask(`${dicomWeb}${path}`, { ...asking, headers: { Accept: accept, ...asking.headers } }),

    async stow(parts: readonly Buffer[], asking: Asking = {}): Promise<{ status: number; answer: JsonDataSet }> {
      const { status, body: text } = await ask(`${dicomWeb}/studies`, { ...asking, ...stowRequest(parts) });
      return { status, answer: text.length === 0 ? {} : (JSON.parse(text.toString()) as JsonDataSet) };
    },

    qido: (path: string, parameters: Record<string, string> = {}, asking: Asking = {}) =>
      json<JsonDataSet[]>(`${dicomWeb}${path}?${new URLSearchParams(parameters)}`, asking),

    metadata: (path: string) => json<JsonDataSet[]>(`${dicomWeb}${path}/metadata`),

    /** The Part 10 files of a study, series or instance, as stored. */
    async wado(path: string): Promise<Buffer[]> {
      const { status, headers, body } = await ask(`${dicomWeb}${path}`, { headers: { Accept: ALL_AS_STORED } });
      assert.equal(status, 200, path);
      return partsOf(String(headers['content-type']), body).map(({ bytes }) => bytes);
    },

    remove: (path: string) => ask(`${dicomWeb}${path}`, { method: 'DELETE' }),

    async api<T>(path: string, method = 'GET', body?: Record<string, unknown>): Promise<{ status: number; json: T }> {
      const answer = await ask(`${deployment.http}/api/v1${path}`, {
        method,
        body: body === undefined ? undefined : Buffer.from(JSON.stringify(body)),
        headers: body === undefined ? {} : { 'Content-Type': 'application/json' },
      });
      return { status: answer.status, json: JSON.parse(answer.body.toString() || 'null') as T };
    },
  };
}

export const instancePath = (sent: Sent): string => pathOf(sent);

/** One connection for all its requests. */
export const oneConnection = (): Agent => new Agent({ keepAlive: true, maxSockets: 1 });
