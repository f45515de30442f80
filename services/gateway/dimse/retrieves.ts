/** C-MOVE and C-GET at work: bounded, so that reading never takes what storing needs. */
export function createRetrieves(max: () => number) {
  let running = 0;
  return {
    /** A function that gives the place back, or undefined when all are taken. */
    take(): (() => void) | undefined {
      if (running >= max()) return undefined;
      running++;
      let given = false;
      return () => {
        if (!given) running--;
        given = true;
      };
    },
    running: () => running,
  };
}
export type Retrieves = ReturnType<typeof createRetrieves>;
