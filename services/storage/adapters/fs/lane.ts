import type { SegmentRow } from '../../ports.ts';

/** One file of a lane: which commits it holds and where their tables are. */
export interface Segment {
  readonly object: string;
  readonly first: number;
  last: number;
  bytes: number;
  readonly thinned: boolean;
  /** Offset of each commit's table, by sequence − first; -1: damaged. Loaded when first needed, dropped when many are held. */
  tocs: number[] | undefined;
}

/** One sequence of commits by one incarnation of one process, for one tenant. */
export interface Lane {
  readonly tenant: string;
  readonly lane: string;
  segments: Segment[];
  /** The last durable commit. */
  head: number;
  closed: boolean;
}

export function segmentOf(lane: Lane, sequence: number): Segment | undefined {
  let low = 0;
  let high = lane.segments.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (lane.segments[middle]!.first <= sequence) low = middle;
    else high = middle - 1;
  }
  const segment = lane.segments[low];
  return segment && segment.first <= sequence && sequence <= segment.last ? segment : undefined;
}

export function segmentRow(lane: Lane, segment: Segment): SegmentRow {
  const open = !lane.closed && segment === lane.segments.at(-1);
  return {
    object: segment.object,
    lane: lane.lane,
    first: segment.first,
    last: segment.last,
    bytes: segment.bytes,
    objects: 1,
    state: open ? 'open' : segment.thinned ? 'thinned' : 'sealed',
  };
}
