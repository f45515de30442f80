import { lanePrefix, parseSegmentName } from '../../log/names.ts';
import type { SegmentRow } from '../../ports.ts';
import type { Row } from './bucket.ts';

/** One sequence of commits by one incarnation of one process, for one tenant, as far as this process has seen it. */
export interface Lane {
  readonly tenant: string;
  readonly lane: string;
  /** Written by this process: nobody else knows more of it. */
  own: boolean;
  /** The last durable commit that we know of; 0: not looked at yet. */
  head: number;
  /** Its last commit says that nothing follows. */
  closed: boolean;
  /** Its objects when it was last listed, ascending; commits beyond them are objects of their own. */
  pieces: readonly Piece[] | undefined;
  /** When we last looked for commits beyond the head, and when in a way that cannot miss any; on our monotonic clock. */
  lookedMs: number;
  listedMs: number;
  /** Its segments, once it is closed and somebody asked. */
  rows?: { readonly rows: readonly SegmentRow[]; readonly atMs: number } | undefined;
}

/** An object of a lane: one commit, or many (a spine's segment, a thinned run). */
export interface Piece {
  readonly object: string;
  readonly first: number;
  readonly bytes: number;
  readonly modifiedMs: number;
  readonly thinned: boolean;
}

export const newLane = (tenant: string, lane: string, own = false): Lane => ({
  tenant,
  lane,
  own,
  head: 0,
  closed: false,
  pieces: undefined,
  lookedMs: Number.NEGATIVE_INFINITY,
  listedMs: Number.NEGATIVE_INFINITY,
});

export const folderOf = ({ tenant, lane }: Lane): string => `${lanePrefix(tenant, lane)}/`;

/** A name that is no segment's (a stranger's file) is none of ours. */
export function pieceOf({ key, bytes, modifiedMs }: Row): Piece | undefined {
  const parsed = parseSegmentName(key.slice(key.lastIndexOf('/') + 1));
  return parsed && { object: key, ...parsed, bytes, modifiedMs };
}

/** Ascending; where both forms are there the one with the bytes comes first. */
export const byFirst = (a: Piece, b: Piece): number => a.first - b.first || Number(a.thinned) - Number(b.thinned);

/** Where a commit may stand, the likeliest first: the piece that begins with it or last before it, then thinned ones. */
export function candidates(pieces: readonly Piece[], sequence: number): Piece[] {
  let low = 0;
  let high = pieces.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (pieces[middle]!.first <= sequence) low = middle + 1;
    else high = middle;
  }
  const before = pieces.slice(0, low).reverse();
  const [nearest] = before;
  if (!nearest) return [];
  const likely = before.filter((piece) => piece.first === nearest.first).reverse();
  const thinned = before.filter((piece) => piece.thinned && piece.first !== nearest.first).slice(0, 2);
  return [...likely, ...thinned];
}
