/** Parts of an upload, and the most that is put in one request: of a stream of unknown length the client would gather 525 MiB. */
export const PART_BYTES = 16 * 1024 * 1024;
