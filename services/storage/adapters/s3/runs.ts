import type { SegmentRow } from '../../ports.ts';
import type { Lane, Piece } from './lane.ts';

/** Commits that are merged into one thinned object at most: one read of a keeper's. */
export const RUN_COMMITS = 1024;

/** What the keeper sees as one segment: consecutive commits, each an object of its own, or one object with many. */
export interface Run {
  readonly row: SegmentRow;
  /** Ascending. */
  readonly pieces: readonly Piece[];
}

export type SpanOf = (piece: Piece) => Promise<{ first: number; last: number }>;

/**
 * Cuts a lane into segments, each time the same way: at `segmentBytes`, or RUN_COMMITS; where a thinned form was prepared, as far as
 * that reaches. The object of a closed lane's last number is in its run, and outlives it: it keeps that number taken, whoever wakes.
 */
export async function runsOf(
  lane: Lane,
  pieces: readonly Piece[],
  segmentBytes: number,
  spanOf: SpanOf,
): Promise<Run[]> {
  const whole = pieces.filter((piece) => !piece.thinned);
  const thinned = pieces.filter((piece) => piece.thinned);
  const runs: Run[] = [];
  let run: Piece[] = [];
  let bytes = 0;
  let until: number | undefined;
  const keepsLast = (members: readonly Piece[]): boolean =>
    lane.closed && members.length > 1 && members.at(-1)!.first === lane.head;
  const row = (members: readonly Piece[], first: number, last: number, state: SegmentRow['state']): Run => ({
    pieces: members,
    row: {
      object: members[0]!.object,
      lane: lane.lane,
      first,
      last,
      bytes: members.reduce((sum, piece) => sum + piece.bytes, 0),
      objects: members.length - (keepsLast(members) ? 1 : 0),
      state,
    },
  });
  const finish = (full: boolean): void => {
    if (run.length === 0) return;
    runs.push(row(run, run[0]!.first, run.at(-1)!.first, full || lane.closed ? 'sealed' : 'open'));
    run = [];
    bytes = 0;
    until = undefined;
  };
  for (const [i, piece] of whole.entries()) {
    const next = whole[i + 1];
    // A closing is the last of its lane, and the last of its object.
    const alone = next?.first === piece.first + 1 || (lane.closed && piece.first === lane.head);
    const last = alone ? piece.first : (await spanOf(piece)).last;
    if (last > piece.first) {
      finish(true);
      const open = !lane.closed && next === undefined && last >= lane.head;
      runs.push(row([piece], piece.first, last, open ? 'open' : 'sealed'));
      continue;
    }
    const before = run.at(-1);
    if (before && before.first + 1 !== piece.first) finish(true);
    const closing = lane.closed && piece.first === lane.head;
    const full = until === undefined ? bytes >= segmentBytes || run.length >= RUN_COMMITS : piece.first > until;
    if (run.length > 0 && full && !(closing && until === undefined)) finish(true);
    if (run.length === 0) {
      const prepared = thinned.find(({ first }) => first === piece.first);
      if (prepared) until = (await spanOf(prepared)).last;
    }
    run.push(piece);
    bytes += piece.bytes;
  }
  finish(false); // open as long as the next commit could still belong to it
  const keeps = lane.closed ? runs.at(-1) : undefined;
  // What is left of a run that was thinned: only the object that keeps the last number.
  if (keeps?.pieces.length === 1 && keeps.row.first === lane.head && thinned.length > 0)
    runs[runs.length - 1] = { ...keeps, row: { ...keeps.row, state: 'thinned' } };
  for (const piece of thinned) {
    if (whole.some(({ first }) => first === piece.first)) continue; // prepared: what it was made of still counts
    const { first, last } = await spanOf(piece);
    runs.push(row([piece], first, last, 'thinned'));
  }
  return runs.sort((a, b) => a.row.first - b.row.first);
}
