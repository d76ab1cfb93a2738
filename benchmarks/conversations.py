#!/usr/bin/env python3
"""Writes conversations about documents, for `restkv eval prompts --data FILE --chat`.

Each document is a chronicle of a small town with some sentences of the form "One of the special magic
numbers for K is: N." hidden in it, at even distances. Each question of the conversation asks for one of
the numbers, in random order, so that most of them are asked long after the document was compressed.

Usage: benchmarks/conversations.py [--documents 10] [--words 2900] [--questions 5] [--seed 1] > FILE.jsonl
2,900 words are about 4,000 tokens of SmolLM2.
"""

import argparse
import json
import random

PEOPLE = "the baker,the ferryman,Mrs. Alder,the young doctor,old Tomas,the schoolmaster,a pedlar,the miller's son,\
the night watchman,Clara Wendt,the postmistress,two fishermen,the organist,Captain Bly,the mayor's cousin".split(",")
DEEDS = "mended,carried,painted,sold,borrowed,measured,lost,polished,described,hid,traded,admired,drew,weighed".split(",")
THINGS = "a copper kettle,the long ladder,three crates of apples,an unfinished map,the church clock,a red umbrella,\
the harbour ledger,a sack of flour,the broken lantern,a letter from abroad,seven chairs,the winter boat".split(",")
PLACES = "behind the granary,on the quay,near the old bridge,in the upper street,beside the well,at the north gate,\
under the lime trees,in the reading room,above the smithy,along the river path".split(",")
TIMES = "Early in March,One Sunday,After the storm,Before the fair,That same evening,During the long frost,A week later,\
At dawn,In the year of the flood,When the bells fell silent".split(",")
ENDS = "and nobody asked why,which pleased the neighbours,though it rained all day,and the bill was never paid,\
as everyone had expected,until the lamps were lit,and the dog slept through it,to the surprise of the children".split(",")
KEYS = "amber,basalt,cedar,dahlia,ember,fennel,garnet,hazel,indigo,juniper,kestrel,linden,marble,nutmeg,opal,poppy,quartz,\
russet,saffron,thistle".split(",")


def sentence(draw):
    return (f"{draw.choice(TIMES)} {draw.choice(PEOPLE)} {draw.choice(DEEDS)} {draw.choice(THINGS)} "
            f"{draw.choice(PLACES)}, {draw.choice(ENDS)}.")


def conversation(number, arguments):
    draw = random.Random(arguments.seed * 1000 + number)
    keys = draw.sample(KEYS, arguments.questions)
    facts = [(key, str(draw.randint(1_000_000, 9_999_999))) for key in keys]
    sentences, words = [], 0
    while words < arguments.words:
        sentences.append(sentence(draw))
        words += len(sentences[-1].split())
    for i, (key, value) in enumerate(facts):
        at = (2 * i + 1) * len(sentences) // (2 * len(facts))
        sentences.insert(at, f"One of the special magic numbers for {key} is: {value}.")
    draw.shuffle(facts)
    return {
        "id": f"conversation-{number}",
        "task": "conversations",
        "text": "Read this chronicle. I will ask you about it afterwards.\n\n" + " ".join(sentences) + "\n\n",
        "turns": [{"question": f"What is the special magic number for {key} mentioned in the chronicle? "
                               "Answer with the number only.", "answers": [value]} for key, value in facts],
        "max_new_tokens": 48,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("documents", 10), ("words", 2900), ("questions", 5), ("seed", 1)):
        parser.add_argument(f"--{name}", type=int, default=value)
    arguments = parser.parse_args()
    if not 1 <= arguments.questions <= len(KEYS):
        parser.error(f"--questions is {arguments.questions}; there are words for 1 to {len(KEYS)}")
    for number in range(arguments.documents):
        print(json.dumps(conversation(number, arguments)))


if __name__ == "__main__":
    main()
