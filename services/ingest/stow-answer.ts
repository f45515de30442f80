import { isAcceptableUid } from '#dicom/uids.ts';
import { ERRORS, type ErrorCode } from '#platform/errors.ts';
import type { StoreResponse, StowResponse } from '#proto/ingest/v1/ingest.ts';
import type { Position } from '#proto/storage/v1/log.ts';

/** What became of one part, as far as the answer tells it. */
export interface StowOutcome {
  sopClassUid: string;
  sopInstanceUid: string;
  studyInstanceUid: string;
  seriesInstanceUid: string;
  /** undefined: stored. */
  error: ErrorCode | undefined;
}

type Attribute = { vr: string; Value?: unknown[] };
type Item = Record<string, Attribute>;

const uid = (value: string): Attribute => ({ vr: 'UI', Value: [value] });
const sequence = (items: Item[]): Attribute => ({ vr: 'SQ', Value: items });

/** The Store Instances Response Module (PS3.18 Table 10.5.3-1) as it grows, in the order of the parts. */
export class StowAnswer {
  readonly #outcomes: StowOutcome[] = [];
  readonly #heads = new Map<string, number>();
  readonly #studiesUrl: string;
  readonly #studyOfPath: string;

  constructor(retrieveRoot: string, studyOfPath: string) {
    this.#studiesUrl = `${retrieveRoot.replace(/\/+$/, '')}/studies`;
    this.#studyOfPath = studyOfPath;
  }

  get parts(): number {
    return this.#outcomes.length;
  }

  /** Where the outcome of the next part will stand, whenever it comes. */
  reserve(): (response: StoreResponse) => void {
    const at = this.#outcomes.length;
    this.#outcomes.push(NOT_YET);
    return (response) => {
      this.#outcomes[at] = {
        sopClassUid: response.sopClassUid,
        sopInstanceUid: response.sopInstanceUid,
        studyInstanceUid: response.studyInstanceUid,
        seriesInstanceUid: response.seriesInstanceUid,
        error: response.error === '' ? undefined : codeOf(response.error),
      };
      if (response.position) this.#note(response.position);
    };
  }

  /** A failure of which nothing is known but the reason. */
  fail(code: ErrorCode): void {
    this.#outcomes.push({ ...NOT_YET, error: code });
  }

  #note(position: Position): void {
    this.#heads.set(position.lane, Math.max(position.sequence, this.#heads.get(position.lane) ?? 0));
  }

  response(): StowResponse {
    const failed = this.#outcomes.filter((outcome) => outcome.error !== undefined).length;
    const error = this.#commonError();
    return {
      stored: this.#outcomes.length - failed,
      warned: 0,
      failed,
      error: error ?? '',
      errorMessage: error ? 'nothing was stored; the same request may succeed later' : '',
      positions: [...this.#heads].map(([lane, sequence]) => ({ lane, sequence })),
    };
  }

  /** Everything failed for one reason that will pass: 503 or 507 tell a client to come again, 409 would not. */
  #commonError(): ErrorCode | undefined {
    const error = this.#outcomes[0]?.error;
    return error && ERRORS[error].retry && this.#outcomes.every((outcome) => outcome.error === error)
      ? error
      : undefined;
  }

  json(): Item {
    const stored: Item[] = [];
    const failed: Item[] = [];
    const others: Item[] = [];
    const studies = new Set<string>();
    for (const outcome of this.#outcomes) {
      const named: Item = { '00081150': uid(outcome.sopClassUid), '00081155': uid(outcome.sopInstanceUid) };
      if (outcome.error === undefined) {
        studies.add(outcome.studyInstanceUid);
        stored.push({ ...named, '00081190': { vr: 'UR', Value: [this.#instanceUrl(outcome)] } });
        continue;
      }
      const reason: Item = { '00081197': { vr: 'US', Value: [ERRORS[outcome.error].stow] } };
      // Both UIDs are Type 1 in the Failed SOP Sequence: what has not both stands among the other failures.
      if (isAcceptableUid(outcome.sopClassUid) && isAcceptableUid(outcome.sopInstanceUid))
        failed.push({ ...named, ...reason });
      else others.push(reason);
    }
    const study = this.#studyOfPath || (studies.size === 1 ? [...studies][0]! : '');
    return {
      '00081190': study ? { vr: 'UR', Value: [`${this.#studiesUrl}/${encodeURIComponent(study)}`] } : { vr: 'UR' }, // Type 2
      ...(failed.length > 0 && { '00081198': sequence(failed) }),
      ...(stored.length > 0 && { '00081199': sequence(stored) }),
      ...(others.length > 0 && { '0008119A': sequence(others) }),
    };
  }

  #instanceUrl(outcome: StowOutcome): string {
    const [study, series, instance] = [outcome.studyInstanceUid, outcome.seriesInstanceUid, outcome.sopInstanceUid].map(
      encodeURIComponent,
    );
    return `${this.#studiesUrl}/${study}/series/${series}/instances/${instance}`;
  }
}

const NOT_YET: StowOutcome = {
  sopClassUid: '',
  sopInstanceUid: '',
  studyInstanceUid: '',
  seriesInstanceUid: '',
  error: 'internal',
};

const codeOf = (code: string): ErrorCode => (Object.hasOwn(ERRORS, code) ? (code as ErrorCode) : 'internal');
