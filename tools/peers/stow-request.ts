// One well-formed STOW-RS request of whole files (PS3.18 §10.5). What is broken on purpose is written out where it is sent.

export interface StowRequest {
  method: 'POST';
  headers: Record<string, string>;
  body: Uint8Array<ArrayBuffer>;
}

const BOUNDARY = 'c0ffee-st0w'; // in no file

/** `parts`: Part 10 files. */
export function stowRequest(parts: readonly Buffer[]): StowRequest {
  const body = parts.flatMap((part) => [
    Buffer.from(`--${BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n`),
    part,
    Buffer.from('\r\n'),
  ]);
  return {
    method: 'POST',
    headers: {
      'Content-Type': `multipart/related; type="application/dicom"; boundary=${BOUNDARY}`,
      Accept: 'application/dicom+json',
    },
    body: new Uint8Array(Buffer.concat([...body, Buffer.from(`--${BOUNDARY}--\r\n`)])),
  };
}
