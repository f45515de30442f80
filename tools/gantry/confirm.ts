// A question before what cannot simply be undone; a script answers it with --yes.
import { createInterface } from 'node:readline';
import { CommandFailure, EXIT, type House, usage } from './command.ts';

export async function confirm(house: House, question: string, yes: boolean): Promise<void> {
  if (yes) return;
  if (house.input.isTTY !== true || house.json)
    throw usage('it asks before it does that; where nobody can answer, say --yes');
  const lines = createInterface({ input: house.input, output: house.errors as NodeJS.WritableStream });
  try {
    const answer = await new Promise<string>((resolve) => {
      lines.question(`${question} [y/N] `, resolve);
      lines.once('close', () => resolve(''));
    });
    if (!/^\s*(y|yes)\s*$/i.test(answer)) throw new CommandFailure(EXIT.failed, 'not-confirmed', 'nothing was done');
  } finally {
    lines.close();
  }
}
