// The part of yauzl that sources.ts uses; the package brings no types.
declare module 'yauzl' {
  import type { Readable } from 'node:stream';
  export interface Entry {
    fileName: string | Buffer;
    uncompressedSize: number;
    compressedSize: number;
    isEncrypted(): boolean;
  }
  export interface ZipFile {
    readonly entryCount: number;
    eachEntry(): AsyncIterable<Entry>;
    openReadStreamPromise(entry: Entry): Promise<Readable>;
    close(): void;
  }
  const yauzl: {
    openPromise(
      path: string,
      options: { autoClose?: boolean; decodeStrings?: boolean; validateEntrySizes?: boolean },
    ): Promise<ZipFile>;
  };
  export default yauzl;
}
