import { AsyncLocalStorage } from 'node:async_hooks';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import { crc32 } from 'node:zlib';
import { Client } from 'minio';
import { GantryError } from '#platform/errors.ts';
import { bytesPassed } from '#platform/young-buffers.ts';
import { Limiter } from '../../limiter.ts';
import {
  type AbandonedUpload,
  type Bucket,
  BucketError,
  backoffMs,
  type Got,
  type Range,
  RetryBudget,
  type Row,
  realClockwork,
  type Upload,
} from './bucket.ts';
import { PART_BYTES } from './limits.ts';
import { type ListPage, parseListPage } from './list-page.ts';

export interface S3Options {
  /** http(s)://host[:port] */
  readonly endpoint: string;
  readonly region: string;
  readonly pathStyle: boolean;
  readonly accessKeyFile: string;
  readonly secretKeyFile: string;
  /** Instead of the files: for tests. */
  readonly accessKey?: string;
  readonly secretKey?: string;
  /** PEM, when the store's certificate is of an authority of one's own. */
  readonly caFile: string;
  readonly logBucket: string;
  readonly packBucket: string;
  readonly derivedBucket: string;
  /** One request, its answer read to the end. */
  readonly requestMs: number;
  /** Reads, lists and parts in flight; commits do not queue behind them. */
  readonly requests: number;
  /** The store ignores conditions, and its owner said that we may go on: a key is looked for before it is put. */
  readonly unconditional?: boolean;
  /** Each request that was answered or failed: name, how it ended, milliseconds. */
  readonly onRequest?: (operation: string, outcome: string, ms: number) => void;
}

const READ_ATTEMPTS = 4;

/** What is known of one request while it runs; the client itself knows neither limits nor signals. */
interface Flight {
  readonly abort: AbortController;
  status: number;
}

/** S3 answers that say "no room", whatever their status. */
const FULL = new Set([
  'QuotaExceeded',
  'XMinioStorageFull',
  'XMinioAdminBucketQuotaExceeded',
  'InsufficientStorage',
  'NoSpaceLeft',
  'ServiceQuotaExceeded',
]);

export class MinioBucket implements Bucket {
  readonly #client: Client;
  readonly #options: S3Options;
  readonly #flights = new AsyncLocalStorage<Flight>();
  readonly #reads: Limiter;
  readonly #budget = new RetryBudget();
  readonly #agent: http.Agent;
  readonly #secure: boolean;
  /** The store's clock minus ours. */
  #aheadMs = 0;

  constructor(options: S3Options) {
    this.#options = options;
    const url = new URL(options.endpoint);
    this.#secure = url.protocol === 'https:';
    const agentOptions = { keepAlive: true, scheduling: 'lifo', timeout: options.requestMs } as const;
    this.#agent = this.#secure
      ? new https.Agent({ ...agentOptions, ca: options.caFile === '' ? undefined : readFileSync(options.caFile) })
      : new http.Agent(agentOptions);
    this.#reads = new Limiter(options.requests);
    this.#client = new Client({
      endPoint: url.hostname.replace(/^\[|\]$/g, ''),
      port: url.port === '' ? (this.#secure ? 443 : 80) : Number(url.port),
      useSSL: this.#secure,
      accessKey: options.accessKey ?? secretOf(options.accessKeyFile, 'storage.s3.accessKeyFile'),
      secretKey: options.secretKey ?? secretOf(options.secretKeyFile, 'storage.s3.secretKeyFile'),
      region: options.region,
      pathStyle: options.pathStyle,
      partSize: PART_BYTES,
      transport: this.#transport() as Pick<typeof http, 'request'>,
      transportAgent: this.#agent,
      retryOptions: { disableRetry: true }, // its own tries again whatever was asked, and prints to the console
    });
  }

  close(): void {
    this.#agent.destroy();
  }

  now(): number {
    return Date.now() + this.#aheadMs;
  }

  /** Each of the buckets is there, and we may list it. */
  async checkBuckets(): Promise<void> {
    for (const prefix of ['log/', 'pack/', 'derived/'])
      await this.#read('check', prefix, async (bucket) => {
        await this.#list(bucket, prefix, true, '', '');
      });
  }

  async put(key: string, body: Buffer, { ifAbsent = false } = {}): Promise<void> {
    if (ifAbsent && this.#options.unconditional && (await this.head(key)))
      throw new BucketError('exists', `put of ${key}: it is there`);
    await this.#once('put', key, async (bucket) => {
      const headers = { ...contentHeaders(body, this.#secure), ...(ifAbsent ? { 'if-none-match': '*' } : {}) };
      const response = await this.#client.makeRequestStreamAsync(
        { method: 'PUT', bucketName: bucket, objectName: key, headers },
        body,
        this.#secure ? '' : createHash('sha256').update(body).digest('hex'),
        [200],
        '',
      );
      await drain(response);
      bytesPassed(body.length);
    });
  }

  async get(key: string, range?: Range): Promise<Got | undefined> {
    if (range && 'length' in range && range.length === 0) {
      const row = await this.head(key);
      return row && { bytes: Buffer.alloc(0), total: row.bytes, modifiedMs: row.modifiedMs };
    }
    return this.#read('get', key, async (bucket) => {
      const headers = range ? { range: rangeHeader(range) } : {};
      const response = await this.#client.makeRequestAsync(
        { method: 'GET', bucketName: bucket, objectName: key, headers },
        '',
        [200, 206, 416],
      );
      // 416: the range begins behind the end, or the object is empty.
      if (response.statusCode === 416) {
        const total = Number(/\/(\d+)$/.exec(response.headers['content-range'] ?? '')?.[1] ?? 0);
        await drain(response);
        return { bytes: Buffer.alloc(0), total, modifiedMs: 0 };
      }
      const length = Number(response.headers['content-length']);
      const whole = Number(/\/(\d+)$/.exec(response.headers['content-range'] ?? '')?.[1] ?? length);
      const bytes = await collect(response, length);
      const modifiedMs = Date.parse(response.headers['last-modified'] ?? '') || 0;
      if (response.statusCode === 206 || !range) return { bytes, total: whole, modifiedMs };
      // A store that ignores ranges gives everything.
      const from = 'last' in range ? Math.max(0, length - range.last) : range.offset;
      const to = 'last' in range ? length : range.offset + range.length;
      return { bytes: bytes.subarray(from, to), total: length, modifiedMs };
    });
  }

  head(key: string): Promise<Row | undefined> {
    return this.#read('head', key, async (bucket) => {
      const response = await this.#client.makeRequestAsync({ method: 'HEAD', bucketName: bucket, objectName: key });
      await drain(response);
      return {
        key,
        bytes: Number(response.headers['content-length']),
        modifiedMs: Date.parse(response.headers['last-modified'] ?? '') || 0,
      };
    });
  }

  async *list(prefix: string, { after = '', shallow = false } = {}): AsyncIterable<Row[]> {
    for (let token = ''; ; ) {
      const page = await this.#read('list', prefix, (bucket) => this.#list(bucket, prefix, shallow, token, after));
      if (!page) return;
      yield page.rows;
      if (page.next === '') return;
      token = page.next;
    }
  }

  async #list(bucketName: string, prefix: string, shallow: boolean, token: string, after: string): Promise<ListPage> {
    const query = new URLSearchParams({ 'list-type': '2', 'max-keys': '1000', prefix });
    if (shallow) query.set('delimiter', '/');
    if (token !== '') query.set('continuation-token', token);
    else if (after !== '') query.set('start-after', after);
    query.sort(); // as the signature wants it
    const text = query.toString().replaceAll('+', '%20').replaceAll('*', '%2A').replaceAll('%7E', '~');
    const response = await this.#client.makeRequestAsync({ method: 'GET', bucketName, query: text });
    return parseListPage((await collect(response)).toString('utf8'));
  }

  async remove(key: string): Promise<void> {
    await this.#read('remove', key, async (bucket) => {
      await this.#client.makeRequestAsyncOmit(
        { method: 'DELETE', bucketName: bucket, objectName: key },
        '',
        [200, 204],
      );
    });
  }

  async beginUpload(key: string): Promise<Upload> {
    const uploadId = await this.#read('begin', key, (bucket) =>
      this.#client.initiateNewMultipartUpload(bucket, key, {}),
    );
    if (uploadId === undefined) throw new BucketError('refused', `the store does not begin the upload of ${key}`);
    const etags: { number: number; etag: string }[] = [];
    const query = `uploadId=${encodeURIComponent(uploadId)}`;
    return {
      part: async (number, body) => {
        await this.#read('part', key, async (bucket) => {
          const response = await this.#client.makeRequestStreamAsync(
            {
              method: 'PUT',
              bucketName: bucket,
              objectName: key,
              query: `partNumber=${number}&${query}`,
              headers: contentHeaders(body, this.#secure),
            },
            body,
            this.#secure ? '' : createHash('sha256').update(body).digest('hex'),
            [200],
            '',
          );
          await drain(response);
          bytesPassed(body.length);
          etags.push({ number, etag: String(response.headers.etag) });
          return true;
        });
      },
      // An unclear answer is not asked again: the second would be "no such upload". Whoever uploads looks for the object.
      complete: () =>
        this.#once('complete', key, async (bucket) => {
          etags.sort((a, b) => a.number - b.number);
          const parts = etags.map(
            ({ number, etag }) => `<Part><PartNumber>${number}</PartNumber><ETag>${etag}</ETag></Part>`,
          );
          const response = await this.#client.makeRequestAsync(
            { method: 'POST', bucketName: bucket, objectName: key, query, headers: { 'if-none-match': '*' } },
            `<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">${parts.join('')}</CompleteMultipartUpload>`,
          );
          // The status is sent before the work is done: an error can come after a 200.
          const text = (await collect(response)).toString('utf8');
          const code = /<Error>[\s\S]*?<Code>([^<]+)<\/Code>/.exec(text)?.[1];
          if (code !== undefined) throw { code, status: 500 };
        }),
      abort: async () => {
        await this.#read('abort', key, async (bucket) => {
          await this.#client.abortMultipartUpload(bucket, key, uploadId);
        });
      },
    };
  }

  async *uploads(prefix: string): AsyncIterable<AbandonedUpload> {
    let [keyMarker, uploadMarker] = ['', ''];
    for (;;) {
      const page = await this.#read('uploads', prefix, (bucket) =>
        this.#client.listIncompleteUploadsQuery(bucket, prefix, keyMarker, uploadMarker, ''),
      );
      if (!page) return;
      for (const { key, uploadId, initiated } of page.uploads)
        yield {
          key,
          begunMs: initiated.getTime(),
          abort: async () => {
            await this.#read('abort', key, async (bucket) => {
              await this.#client.abortMultipartUpload(bucket, key, uploadId);
            });
          },
        };
      if (!page.isTruncated) return;
      [keyMarker, uploadMarker] = [page.nextKeyMarker, page.nextUploadIdMarker];
    }
  }

  #bucketOf(key: string): string {
    const { logBucket, packBucket, derivedBucket } = this.#options;
    if (key.startsWith('pack/') || key.startsWith('large/')) return packBucket;
    return key.startsWith('derived/') ? derivedBucket : logBucket;
  }

  /** For what may be asked twice. Undefined: there is no such key. */
  async #read<T>(operation: string, key: string, work: (bucket: string) => Promise<T>): Promise<T | undefined> {
    return this.#reads.run(async () => {
      for (let attempt = 0; ; attempt++) {
        try {
          return await this.#attempt(operation, key, work);
        } catch (error) {
          if (error instanceof NoSuchKey) return undefined;
          const again = error instanceof BucketError && error.fault === 'unclear' && attempt + 1 < READ_ATTEMPTS;
          if (!again || !this.#budget.take()) throw error;
          await realClockwork.pause(backoffMs(attempt, realClockwork.random));
        }
      }
    });
  }

  /** For what is asked again only by those who know what that means. */
  async #once<T>(operation: string, key: string, work: (bucket: string) => Promise<T>): Promise<T> {
    try {
      return await this.#attempt(operation, key, work);
    } catch (error) {
      if (error instanceof NoSuchKey)
        throw new BucketError('refused', `${operation} of ${key}: not found`, { cause: error });
      throw error;
    }
  }

  async #attempt<T>(operation: string, key: string, work: (bucket: string) => Promise<T>): Promise<T> {
    const flight: Flight = { abort: new AbortController(), status: 0 };
    const began = performance.now();
    const timer = setTimeout(() => flight.abort.abort(), this.#options.requestMs);
    let outcome = 'ok';
    try {
      const answer = await this.#flights.run(flight, () => work(this.#bucketOf(key)));
      this.#budget.succeeded();
      return answer;
    } catch (error) {
      const fault = this.#faultOf(error, flight, operation, key);
      outcome = fault instanceof NoSuchKey ? 'not-found' : fault.fault;
      throw fault;
    } finally {
      clearTimeout(timer);
      this.#options.onRequest?.(operation, outcome, performance.now() - began);
    }
  }

  #faultOf(error: unknown, { abort, status }: Flight, operation: string, key: string): BucketError | NoSuchKey {
    const code = String((error as { code?: unknown })?.code ?? '');
    const what = `${operation} of ${key}`;
    const because = { cause: error };
    if (abort.signal.aborted)
      return new BucketError('unclear', `${what}: no answer within storage.s3.requestMs`, because);
    if (FULL.has(code) || status === 507)
      return new BucketError('full', `${what}: the store has no room (${code})`, because);
    if (status === 412 || code === 'PreconditionFailed')
      return new BucketError('exists', `${what}: it is there`, because);
    // AWS: another conditional write of this key is under way. Which of them wins is not said.
    if (status === 409) return new BucketError('unclear', `${what}: ${code}`, because);
    if (status === 404 && (code === 'NoSuchKey' || code === 'NotFound' || code === ''))
      return new NoSuchKey(what, because);
    if (code === 'NoSuchUpload') return new NoSuchKey(what, because);
    if (code === 'RequestTimeTooSkewed')
      return new BucketError('refused', `${what}: this machine's clock is too far from the store's: set it`, because);
    if (status >= 400 && status < 500 && status !== 408 && status !== 429)
      return new BucketError('refused', `${what}: the store refuses it (${status} ${code})`, because);
    return new BucketError(
      'unclear',
      `${what}: no clear answer (${status === 0 ? code || 'connection' : status})`,
      because,
    );
  }

  /** Where the client makes its requests: here they get a time limit, and here the store's clock is read. */
  #transport() {
    const { request } = this.#secure ? https : http;
    return {
      request: (
        options: http.RequestOptions,
        answered: (response: http.IncomingMessage) => void,
      ): http.ClientRequest => {
        const flight = this.#flights.getStore();
        const made = request({ ...options, signal: flight?.abort.signal }, (response) => {
          const status = response.statusCode ?? 0;
          if (flight) flight.status = status;
          const date = Date.parse(response.headers.date ?? '');
          // To the second: what differs less is no difference.
          if (!Number.isNaN(date)) this.#aheadMs = Math.abs(date - Date.now()) > CLOCK_SLACK_MS ? date - Date.now() : 0;
          // The client throws these away unread, body and socket with them; under a status that it does not know it reads them.
          if (status >= 500 || status === 408 || status === 429) response.statusCode = 599;
          answered(response);
        });
        made.setNoDelay(true);
        return made;
      },
    };
  }
}
const CLOCK_SLACK_MS = 2000;

class NoSuchKey extends Error {}

function secretOf(path: string, setting: string): string {
  if (path === '')
    throw new GantryError('failed-precondition', `${setting} is not set: S3 needs a key, read from a file`);
  try {
    return readFileSync(path, 'utf8').trim();
  } catch (error) {
    throw new GantryError('failed-precondition', `${setting} cannot be read from ${path}`, { cause: error });
  }
}

const rangeHeader = (range: Range): string =>
  'last' in range ? `bytes=-${range.last}` : `bytes=${range.offset}-${range.offset + range.length - 1}`;

/** Without TLS the signature covers a SHA-256 of the body; with it the body is unsigned, and the store checks a CRC. */
const contentHeaders = (body: Buffer, secure: boolean): Record<string, string> => ({
  'content-type': 'application/octet-stream',
  'content-length': String(body.length),
  ...(secure ? { 'x-amz-checksum-crc32': crc32Of(body) } : {}),
});

function crc32Of(body: Buffer): string {
  const sum = Buffer.alloc(4);
  sum.writeUInt32BE(crc32(body));
  return sum.toString('base64');
}

async function drain(response: AsyncIterable<Buffer>): Promise<void> {
  for await (const _ of response);
}

async function collect(response: AsyncIterable<Buffer>, length?: number): Promise<Buffer> {
  if (length === undefined || !Number.isSafeInteger(length)) {
    const pieces: Buffer[] = [];
    for await (const piece of response) pieces.push(piece);
    return Buffer.concat(pieces);
  }
  const bytes = Buffer.allocUnsafe(length);
  let at = 0;
  for await (const piece of response) at += piece.copy(bytes, at);
  if (at !== length) throw new Error('the answer is cut short');
  bytesPassed(length);
  return bytes;
}
