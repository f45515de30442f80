import { DataSet } from '#dicom/dataset.ts';
import { digestOf, versionHash } from '#dicom/digest.ts';
import { DicomError } from '#dicom/errors.ts';
import { encodeHead } from '#dicom/head.ts';
import { Skimmer } from '#dicom/skim.ts';
import type { Call } from '#platform/call.ts';
import { ERRORS, type GantryError, toGantryError } from '#platform/errors.ts';
import type { Bytes } from '#platform/rpc.types.ts';
import type { StorePart10Request, StoreRequest, StoreResponse } from '#proto/ingest/v1/ingest.ts';
import type { Instance, Position, Source } from '#proto/storage/v1/log.ts';
import { fromDataSet, fromPart10, type Opened } from './arrival.ts';
import { Gathered } from './gathered.ts';
import { type Archive, commitLarge, keepSmall, putLarge } from './keep.ts';
import type { Permit, Permits } from './permits.ts';
import { Pull } from './pull.ts';
import { type Identifiers, identifiersOf, refusalOf } from './validate.ts';

/** What is counted and logged of each instance. */
export interface Observer {
  kept(source: Source | undefined, bytes: number): void;
  refused(call: Call, source: Source | undefined, response: StoreResponse, cause: GantryError): void;
}

export interface AcceptLimits {
  smallBytes: number;
  streamBytes: number;
  headBytes: number;
}

/** The body has been read to its end (or given up); the answer comes once the instance is durable, or why it is not. */
export interface Received {
  readonly answer: Promise<StoreResponse>;
}

/**
 * The way of every instance, whichever door: permit, bytes (skimmed and hashed as they flow), validation, storage, answer. It never
 * throws: what goes wrong is an answer, its permit is back, and its body has been read to the end or closed.
 */
export class Accept {
  readonly #archive: Archive;
  readonly #permits: Permits;
  readonly #limits: () => AcceptLimits;
  readonly #observer: Observer;

  constructor(archive: Archive, permits: Permits, limits: () => AcceptLimits, observer: Observer) {
    this.#archive = archive;
    this.#permits = permits;
    this.#limits = limits;
    this.#observer = observer;
  }

  /** A data set as C-STORE carries it. */
  async store(call: Call, request: StoreRequest, body: Bytes): Promise<StoreResponse> {
    const pull = new Pull(body, call.signal);
    return await (await this.receive(call, request.source, '', pull, () => fromDataSet(request))).answer;
  }

  /** A file as import carries it, or a part of a STOW body. */
  async storePart10(call: Call, request: StorePart10Request, body: Bytes): Promise<StoreResponse> {
    return await (await this.receivePart10(call, request, new Pull(body, call.signal))).answer;
  }

  receivePart10(call: Call, request: StorePart10Request, pull: Pull): Promise<Received> {
    return this.receive(call, request.source, request.studyInstanceUid, pull, () => fromPart10(pull));
  }

  async receive(
    call: Call,
    source: Source | undefined,
    studyOfPath: string,
    pull: Pull,
    open: () => Opened | Promise<Opened>,
  ): Promise<Received> {
    let permit: Permit | undefined;
    let reading: Reading | undefined;
    try {
      const limits = this.#limits();
      permit = await this.#permits.take(limits.smallBytes, call.signal, senderOf(source));
      reading = new Reading(await open(), source, studyOfPath, limits.headBytes);
      if (await reading.gather(pull, limits.smallBytes)) {
        const { instance, prefix } = reading.finish();
        const position = keepSmall(this.#archive, call, instance, [prefix, ...reading.gathered.buffers]);
        return this.#answer(call, source, reading, position, permit);
      }
      const { stream, instance } = this.#large(pull, reading, permit, limits);
      let kept: Instance;
      try {
        kept = await putLarge(this.#archive, call, stream, instance);
      } catch (error) {
        throw reading.failure ?? error; // what went wrong in the stream, rather than how storage saw it
      }
      permit.release(); // its bytes are on the disk
      return this.#answer(call, source, reading, commitLarge(this.#archive, call, kept), permit);
    } catch (error) {
      permit?.release();
      await discard(pull);
      const response = this.#refuse(call, source, reading, error);
      return { answer: Promise.resolve(response) };
    }
  }

  #answer(
    call: Call,
    source: Source | undefined,
    reading: Reading,
    position: Promise<Position>,
    permit: Permit,
  ): Received {
    const answer = position
      .then(
        (position): StoreResponse => {
          this.#observer.kept(source, reading.length);
          return { ...answerOf(reading), position };
        },
        (error) => this.#refuse(call, source, reading, error),
      )
      .finally(() => permit.release());
    return { answer };
  }

  #refuse(call: Call, source: Source | undefined, reading: Reading | undefined, error: unknown): StoreResponse {
    return this.refuse(call, source, answerOf(reading), error);
  }

  /** Counted, logged and answered: here, and nowhere else. */
  refuse(call: Call, source: Source | undefined, named: Partial<Identifiers>, error: unknown): StoreResponse {
    const cause = toGantryError(error);
    const response: StoreResponse = {
      ...answerOf(undefined),
      ...named,
      status: ERRORS[cause.code].dimse,
      error: cause.code,
      errorComment: commentOf(cause),
      offendingElements: cause.offendingElements,
      notDicom: cause instanceof DicomError && cause.reason === 'not-dicom',
    };
    this.#observer.refused(call, source, response, cause);
    return response;
  }

  /** What was gathered, then what still comes: pulled by storage, so that its pace is the sender's. */
  #large(
    pull: Pull,
    reading: Reading,
    permit: Permit,
    limits: AcceptLimits,
  ): { stream: Bytes; instance: () => Instance } {
    let finished: Instance | undefined;
    async function* stream(): AsyncGenerator<Buffer> {
      try {
        yield reading.prefix();
        const { buffers } = reading.gathered;
        for (let i = 0; i < buffers.length; i++) {
          const buffer = buffers[i]!;
          buffers[i] = NOTHING;
          yield buffer;
        }
        permit.shrinkTo(limits.streamBytes);
        // Not for…of: when storage stops reading, what is left of the body is still to be drained.
        for (let result = await pull.next(); !result.done; result = await pull.next()) {
          reading.read(result.value);
          yield result.value;
        }
        // Before the stream ends: storage keeps nothing of a stream that fails.
        finished = reading.finish().instance;
      } catch (error) {
        reading.failure = error;
        throw error;
      }
    }
    return {
      stream: stream(),
      instance: () => {
        if (!finished) throw new Error('storage answered before it had read the whole instance');
        return finished;
      },
    };
  }
}

const NOTHING = Buffer.alloc(0);

/** One instance while its bytes flow: skimmed and hashed once. */
class Reading {
  readonly gathered = new Gathered();
  failure: unknown;
  /** Of the data set, so far. */
  #read = 0;
  readonly #opened: Opened;
  readonly #source: Source | undefined;
  readonly #studyOfPath: string;
  readonly #skimmer: Skimmer;
  readonly #hash: ReturnType<typeof versionHash>;
  #prefix: Buffer | undefined;
  #instance: Instance | undefined;

  constructor(opened: Opened, source: Source | undefined, studyOfPath: string, headBytes: number) {
    this.#opened = opened;
    this.#source = source;
    this.#studyOfPath = studyOfPath;
    this.#skimmer = new Skimmer({
      transferSyntaxUid: opened.transferSyntaxUid,
      limits: { skeletonBytesMax: headBytes },
    });
    this.#hash = versionHash(opened.transferSyntaxUid);
  }

  /** Of the file as it is kept. */
  get length(): number {
    return (this.#prefix?.length ?? 0) + this.#read;
  }
  get instance(): Instance | undefined {
    return this.#instance;
  }
  get opened(): Opened {
    return this.#opened;
  }

  read(chunk: Buffer): void {
    this.#read += chunk.length;
    this.#hash.update(chunk);
    this.#skimmer.write(chunk);
  }

  /** True: all of it is here. False: it is larger than `bytesMax`, and the rest is to be streamed. */
  async gather(pull: Pull, bytesMax: number): Promise<boolean> {
    const room = bytesMax - this.#opened.prefixLength;
    for (let chunk = this.#opened.dataSet; ; ) {
      this.gathered.push(chunk);
      this.read(chunk);
      if (this.#read > room) return false;
      const { done, value } = await pull.next();
      if (done) return true;
      chunk = value;
    }
  }

  prefix(): Buffer {
    return (this.#prefix ??= this.#opened.prefix(this.gathered));
  }

  /** Throws what refuses it. */
  finish(): { instance: Instance; prefix: Buffer } {
    const head = this.#skimmer.end();
    const { stated, transferSyntaxUid } = this.#opened;
    const identifiers = identifiersOf(new DataSet(head), stated);
    const version = this.#hash.digest();
    const instance: Instance = {
      ...identifiers,
      transferSyntaxUid,
      version,
      digest: NOTHING,
      place: undefined,
      dataSetOffset: 0,
      head: NOTHING,
      source: this.#source,
    };
    this.#instance = instance; // a refusal names it, as far as it names itself
    const refusal = refusalOf({
      ...identifiers,
      stated: stated && { ...stated, transferSyntaxUid },
      studyOfPath: this.#studyOfPath,
    });
    if (refusal) throw refusal;
    const prefix = (this.#prefix ??= this.#opened.prefix(this.gathered, identifiers));
    instance.digest = digestOf(prefix, version);
    instance.place = { object: '', offset: 0, length: prefix.length + this.#read, encoding: 0 };
    instance.dataSetOffset = prefix.length;
    instance.head = encodeHead(head);
    return { instance, prefix };
  }
}

/** An address opens many associations; a title is what a sender without an address (a test, another process) has. */
const senderOf = (source: Source | undefined): string => source?.address || source?.callingAeTitle || '';

function answerOf(reading: Reading | undefined): StoreResponse {
  const named = reading?.instance ?? reading?.opened.stated;
  return {
    status: 0,
    error: '',
    errorComment: '',
    offendingElements: [],
    sopClassUid: named?.sopClassUid ?? '',
    sopInstanceUid: named?.sopInstanceUid ?? '',
    studyInstanceUid: reading?.instance?.studyInstanceUid ?? '',
    seriesInstanceUid: reading?.instance?.seriesInstanceUid ?? '',
    position: undefined,
    notDicom: false,
  };
}

/** Error Comment (0000,0902) is LO: 64 characters, no backslash, no control characters. */
function commentOf(error: GantryError): string {
  if (error.code === 'internal') return 'An unexpected failure; see the log of the archive';
  return error.message.replace(/[^\x20-\x5b\x5d-\x7e]/g, '?').slice(0, 64);
}

async function discard(pull: Pull): Promise<void> {
  try {
    await pull.drain();
  } catch {
    // The refusal stands already: that the sender broke off as well changes nothing.
  }
}
