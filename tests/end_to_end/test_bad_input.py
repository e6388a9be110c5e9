"""Bad input: one line that says what is wrong, exit status 2, and nothing written.

A row of a table is `name | what the user gives | what the line must say`. The whole folder, contents and times, is
compared before and after: that is the proof that nothing was written.
"""

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
import yaml
from hf_folders import write_model
from reported import evaluation
from tiny import TINY, tiny_config, tiny_experiment, write_config

from gptgan_jax import TransformerConfig
from gptgan_jax.checkpoints.manager import Checkpoints
from gptgan_jax.cli import main
from gptgan_jax.pretrained.weights import WEIGHTS_FILE
from gptgan_jax.runs.folder import RunFolder
from gptgan_jax.runs.held_out import held_out_of, save_held_out
from gptgan_jax.training.phases import build_gan

# What follows `gptgan train tiny.yaml`.
OVERRIDES = """
a misspelt key            | --likelihood.stepz 3     | 'likelihood.stepz'; did you mean 'likelihood.steps'?
a key of another kind     | --data.kind grammar --data.streaming true | unknown key 'data.streaming': it is one of data.kind hf, and this is grammar; set the kind too
a misspelt section        | --likelyhood.steps 3     | unknown key 'likelyhood'; did you mean 'likelihood'?
a key of nowhere          | --xyzzy 3                | unknown key 'xyzzy'; the keys here are name, runs_folder
a key of another kind     | --generator.hidden 3     | unknown key 'generator.hidden'
a value with sub-keys     | --seed.x 3               | seed
a section given a scalar  | --likelihood 3           | likelihood is a section with keys of its own
an override without value | --seed                   | --seed needs a value
an override in its place  | --seed --name x          | --seed needs a value
a stray positional        | stray                    | unexpected argument 'stray'
a bare --                 | -- x                     | unexpected argument '--'
an empty key              | --. x                    | unknown key
a single dash             | -seed 3                  | unexpected argument '-seed'
an unknown kind           | --data.kind txt          | data.kind is 'txt'; choose one of grammar, text, hf, oracle
a list as kind            | --data.kind [text]       | data.kind is '[text]'; choose one of
no kind                   | --data.kind null         | data.kind is None; choose one of
half a list               | --discriminator.kind cnn --discriminator.widths '[1, 2' | '[1, 2' is not a list
text for an integer       | --likelihood.steps many  | likelihood.steps: should be a valid integer
a fraction for an integer | --seed 1.5               | seed: should be a valid integer
text for a number         | --objective.temperature hot  | objective.temperature: should be a valid number
text for true or false    | --objective.dense maybe  | objective.dense: should be a valid boolean
none of the options       | --objective.pair_loss rel    | objective.pair_loss: should be 'non_saturating', 'hinge', 'relativistic'
null for a number         | --seed null              | seed: should be a valid integer, not None
not a number              | --objective.temperature nan  | objective.temperature: should be a finite number
infinity                  | --objective.kl_weight inf    | objective.kl_weight: should be a finite number
below the range           | --likelihood.batch_size 0    | likelihood.batch_size: should be greater than or equal to 1
at an open bound          | --evaluation.top_p 0     | evaluation.top_p: should be greater than 0, not '0'
above the range           | --evaluation.top_p 2     | evaluation.top_p: should be less than or equal to 1, not '2'
a seed beyond 31 bits     | --seed 4000000000        | seed: should be less than 2147483648
no window                 | --discriminator.kind cnn --discriminator.widths [0] | discriminator.widths
text for a list           | --discriminator.kind cnn --discriminator.widths x   | discriminator.widths: should be a valid
a name with a slash       | --name a/b               | name 'a/b' must be a plain folder name
a name too long           | --name {long}            | name: string should have at most 200 characters
too few positions         | --generator.max_positions 9  | generator.max_positions 9 is less than 1 + data.max_prompt_length 3
heads and width           | --generator.heads 3      | generator: width 8 is not a multiple of heads 3
a kernel in float32       | --generator.attention flash  | generator: attention flash needs dtype bfloat16: set that, or attention dense
a kernel's second slope   | --discriminator.kind transformer --discriminator.attention flash --discriminator.dtype bfloat16 --objective.r1_weight 1 | objective.r1_weight needs second derivatives, which the kernels of discriminator.attention flash do not have: set discriminator.attention to dense, or the weight to 0
a kernel under pmap       | --generator.attention flash --generator.dtype bfloat16 --generator.head_width 8 --mesh.backend pmap | mesh.backend pmap splits no kernel where a run is validated: set generator.attention to dense, or mesh.backend to jit
no phase at all           | --likelihood.steps 0 --warmup.steps 0 --adversarial.steps 0 | likelihood.steps and adversarial.steps are both 0
packed rows of an LSTM    | --likelihood.packing best_fit --generator.kind lstm | should be a decoder-only transformer; set likelihood.packing to none
packed rows with prompts  | --data.kind grammar --data.task answer --likelihood.packing concatenate | it needs text without prompts
packed rows in buckets    | --likelihood.packing best_fit --likelihood.length_buckets 2 | set one of them alone
rows that see each other  | --data.attend_across true | data.attend_across is for packed rows: set likelihood.packing, or drop it
a store without packing   | --data.kind text --data.train one.txt --data.store s | data.store is read in packed rows: set likelihood.packing to concatenate or best_fit
a store of what is cut    | --data.kind text --data.train one.txt --data.store s --likelihood.packing concatenate --data.long_documents cut | data.store keeps whole documents, and rows are windows of them
tokens without a store    | --data.kind text --data.train one.txt --data.max_tokens 9 | data.max_tokens ends a token store: set data.store, or drop it
a store of labels         | --data.kind hf --data.train rows.json --data.label_column text --data.store s --likelihood.packing concatenate | data.store holds text alone: drop data.label_column, or data.store
windows of answers        | --data.kind grammar --data.task answer --data.long_documents split | a window of an answer answers nothing; set it to cut
a glob without quotes     | --data.train one.txt tiny.yaml | unexpected argument 'tiny.yaml': overrides are written --key.path value; of a glob the shell makes many names
rows as text              | --data.train rows.json   | rows.json holds rows (json), not text; set data.kind hf
a judge unlike the writer | --discriminator.kind transformer --discriminator.from_generator true --discriminator.layers 3 | discriminator.layers is 3, generator.layers is 1; drop the first
goals without a manager   | --objective.estimator.kind leakgan --objective.dense 0 | trains a manager's goals, which only a generator of kind leakgan has: choose that
features of no cnn        | --generator.kind leakgan | generator leakgan reads a cnn's features: set discriminator to a cnn, not linear
features of another cnn   | --generator.kind leakgan --discriminator.kind cnn --generator.leaked.filters 3 | generator.leaked should be the discriminator's network, without its dropout
features that are divided | --generator.kind leakgan --discriminator.kind cnn --discriminator.spectral_norm 1 | its weights as they are, set spectral_norm to false there and here
features of several parts | --generator.kind leakgan --discriminator.kind cnn --discriminator.representations 2 | one set of features, set representations to 1 there and here
features with dropout     | --generator.kind leakgan --discriminator.kind cnn --generator.leaked.dropout .1 | features without dropout, set leaked.dropout to 0
adapters beside features  | --generator.kind leakgan --discriminator.kind cnn --generator.lora.rank 2 | lora keeps frozen weights as they are, and leaked follows the discriminator: drop lora
features of hidden labels | --generator.kind leakgan --discriminator.kind cnn --data.kind grammar --data.label tense --data.label_prompts 1 | generator.kind leakgan reads the discriminator's features, and data.label_prompts hides the prompts from
no control of features    | --generator.kind leakgan --discriminator.kind cnn --objective.dense 0 --objective.estimator.kind leakgan --objective.reward constant | objective.reward constant is no control of objective.estimator leakgan; a frozen discriminator is
a judge from an LSTM      | --discriminator.kind transformer --discriminator.from_generator 1 --generator.kind lstm | decoder-only
another vocabulary        | --vocab_size 999         | vocab_size 999: the tokenizer has 18 tokens
missing text              | --data.train no.txt      | /no.txt
a glob without match      | --data.train no*.txt     | data.train: no file matches /
a folder of other files   | --data.train runs        | holds rows (json), not text
empty text                | --data.train void.txt    | /void.txt is empty; it should hold one document a line
blank text                | --data.train blank.txt   | /blank.txt is empty
text that is not UTF-8    | --data.train latin.txt   | latin.txt, line 3: not UTF-8 (byte 0xe9 at position 4)
validation text missing   | --data.valid no.txt      | data.valid: no such file: /
too little to hold out of | --data.train one.txt     | of the 1 document of data.train
no text named             | --data.train null        | data.train: no training text named
a reward of no name       | --objective.rewards '[{function: lenght}]' | function 'lenght' is none of exact_answer, length, pattern,
a mixture of nothing       | --data.kind mixture | data.sources names no source of text; give a list of them
a mixture in buckets       | --data.kind mixture --data.sources '[{kind: text, train: one.txt, weight: 1}]' --likelihood.length_buckets 2 | likelihood.length_buckets puts texts of like length into a batch, which a mixture draws by its weights
a reward that is no list  | --objective.rewards length | objective.rewards should be a list of sections, such as [{function: length
two rewards of one name   | --objective.rewards '[{function: length}, {function: length}]' | objective.rewards: two are called length; give one of them another name
a right answer to nothing | --objective.rewards '[{function: exact_answer}]' | objective.rewards: exact_answer compares answers to prompts, and this data has none; leave it out
a reward of other options | --objective.rewards '[{function: length, options: {goal: 3}}]' | reward length: got an unexpected keyword argument 'goal'; its options are target, unit
a reward of no module     | --objective.rewards '[{function: "no_such:f"}]' | objective.rewards: function 'no_such:f' should be module:name and importable: No module named
columns for no reward     | --data.kind hf --data.train rows.json --data.reward_columns [text] | data.reward_columns is for functions of objective.rewards, and there are none; drop it
columns that are missing  | --data.kind hf --data.train rows.json --data.reward_columns [lost] --objective.rewards '[{function: length}]' | no column lost; there are: text
columns beside a store    | --data.kind hf --data.train rows.json --data.reward_columns [text] --objective.rewards '[{function: length}]' --data.store s --likelihood.packing concatenate | data.reward_columns: data.store keeps texts alone; drop one of them
a column that is missing  | --data.kind hf --data.train rows.json --data.text_column said | no column said; there are: text
json that is none         | --data.kind hf --data.train one.txt | one.txt
a stream without end      | --data.kind hf --data.streaming yes | data.streaming: needs data.max_documents
an oracle that is missing | --data.kind oracle --data.path no.npz | no.npz: no such file; an oracle is an .npz file
the best of answers       | --data.kind grammar --data.task answer --evaluation.best_of 4 | evaluation.best_of needs text without prompts
a task without prompts    | --evaluation.task answer | evaluation.task answer measures answers to prompts: set data.prompt_column
a task of no one          | --evaluation.task chat   | evaluation.task: should be 'summary', 'answer' or 'dialogue', not 'chat'
a grammar's task of no one | --data.kind grammar --data.task translate | data.task: should be 'condense' or 'answer', not 'translate'
a grammar's task elsewhere | --data.task condense    | unknown key 'data.task'
a prompt column missing   | --data.kind hf --data.train rows.json --data.prompt_column ask | no column ask; there are: text
a prompt that is absent   | --data.kind hf --data.train asks.json --data.prompt_column ask | row 2: column ask holds null, which is no text
a choice by no task       | --evaluation.choose_by task | evaluation.choose_by task needs evaluation.task summary or answer
a choice by lost spelling | --data.kind grammar --data.train_size 60 --data.valid_size 20 --data.max_length 150 --generator.max_positions 160 --tokenizer.kind character --tokenizer.vocab_size 20 --evaluation.choose_by max(grammatical) | validation texts are no sentences of the grammar as the tokenizer spells them (such as
right answers of no task  | --data.kind hf --data.train asked.json --data.prompt_column ask --data.answer_column text | data.answer_column has right answers, which evaluation.task
right answers missing     | --data.kind hf --data.train asked.json --data.prompt_column ask --data.answer_column right --evaluation.task answer | no column right; there are:
turns of no conversation  | --data.kind hf --data.train rows.json --data.assistant_turns all | data.assistant_turns all is for conversations: set data.text_column to a column of them
turns of a right answer   | --data.kind hf --data.train asked.json --data.prompt_column ask --data.answer_column text --data.assistant_turns all --evaluation.task answer | answer_column has one right answer for a conversation
prompts without a file    | --data.kind hf --data.train no.jsonl --data.prompt_column ask | data.train: no such file: /
prompts to test, no file  | --data.kind hf --data.train asked.json --data.prompt_column ask --data.test no.jsonl | data.test: no such file: /
a set without a file      | --data.kind hf --data.train null --data.prompt_column ask | data.train: no json file named
a seed no key can hold    | --data.kind oracle --data.seed {nines} | data.seed
a tokenizer missing       | --tokenizer.kind file --tokenizer.path no.json  | no.json: no such file; tokenizer.path should name
a tokenizer that is none  | --tokenizer.kind file --tokenizer.path one.txt  | one.txt: not a tokenizer.json
a tokenizer of other text | --tokenizer.kind file --tokenizer.path x.json   | data.train
an integer of any size     | --seed {many}            | seed:
digits of another script   | --likelihood.steps ३x    | likelihood.steps: should be a valid integer
a key in wide letters      | --ｓｅｅｄ 3                 | unknown key 'ｓｅｅｄ'
a dash that is none        | –seed 3                  | unexpected argument '–seed'
a flag of arrows           | --→ x                    | unknown key '→'
UTF-16 text                | --data.train utf16.txt   | utf16.txt, line 1: not UTF-8 (byte 0xff at position 1)
a picture as text          | --data.train png.txt     | png.txt, line 1: not UTF-8 (byte 0x89 at position 1)
a byte order mark alone    | --data.train mark.txt    | mark.txt is empty
a text through a file      | --data.train one.txt/x   | data.train: no such file: /
a text in a circle         | --data.train loop.txt    | data.train: no such file: /
a pipe as text             | --data.train pipe        | data.train: no such file: /
a text of a long name      | --data.train {long}{long} | data.train: no such file: /
a glob over folders        | --data.train r*s         | data.train: no file matches /
a text file in no home     | --data.train ~nobody9/x  | data.train: no such file: /
a row without its text     | --data.kind hf --data.train gaps.json  | row 2: column text holds null, which is no text
a text that is a list       | --data.kind hf --data.train numbers.json --data.valid numbers.json | row 1: column text holds [1], which is no text; lists of whole numbers are token ids
a prompt that is a list    | --data.kind hf --data.train lists.json --data.prompt_column ask | row 1: column ask holds ["x"]
a label that is a fraction | --data.kind hf --data.train labels.json --data.label_column half | row 1: label 0.5 is neither a string nor a whole number
a label that is a list     | --data.kind hf --data.train labels.json --data.label_column list | row 1: label ["x"] is neither
a label that is absent     | --data.kind hf --data.train labels.json --data.label_column kind | no column kind; there are: text
labels that are all empty  | --data.kind hf --data.train labels.json --data.label_column nothing | no row of it has a label
a label not trained on     | --data.kind hf --data.train labels.json --data.label_column is --data.valid other.json | row 1: label 'z' is none of the training labels: a, b
labels under another name  | --data.kind hf --data.train labels.json --data.label_column is --data.classes [b] | row 1: label 'a' is none of the data.classes: b
a label named twice        | --data.kind hf --data.train labels.json --data.label_column is --data.classes [a,a] | data.classes: a name stands there twice
classes of no label        | --data.kind hf --data.train labels.json --data.classes [a,b] | data.classes is for data with labels: set data.label_column
text without labels alone  | --data.kind hf --data.train labels.json --data.unlabelled rows.json | data.unlabelled is for data with labels: set data.label_column, or drop unlabelled
text without labels gone   | --data.kind hf --data.train labels.json --data.valid labels.json --data.label_column is --data.unlabelled no.json | data.unlabelled: no such file
prompts of no label        | --data.kind hf --data.train labels.json --data.label_prompts 1 | data.label_prompts needs labels: set data.label_column
prompts of two kinds       | --data.kind hf --data.train labels.json --data.label_column is --data.label_prompts 1 --data.prompt_column is | data.label_prompts makes prompts of the labels
labels that are cut alike  | --data.kind hf --data.train long.json --data.valid long.json --data.label_column is --data.label_prompts 1 --data.max_prompt_length 1 | labels 'b a' and 'c a' are the same prompt
blanks of no share         | --data.infilling.copies 2 | data.infilling leaves out a share of each text, and that is 0: set data.infilling.share, or drop it
more blanks than words     | --data.infilling.share 1.5 | data.infilling.share: should be less than or equal to 1
spans of no one            | --data.infilling.share 0.5 --data.infilling.spans all | data.infilling.spans: should be 'contiguous' or 'random', not 'all'
a blank of spaces          | --data.infilling.share 0.5 --data.infilling.blank 'a b' | blank 'a b' has white space, which separates words; give a mark without
a blank of nothing         | --data.infilling.share 0.5 --data.infilling.blank '' | data.infilling.blank: is empty; give it a value, or leave the key out
a blank that is a word     | --data.infilling.share 0.5 --data.infilling.blank run | data.infilling.blank 'run' occurs in document
blanks beside prompts      | --data.infilling.share 0.5 --data.kind hf --data.train asked.json --data.prompt_column ask | data.infilling makes prompts of the texts: data.prompt_column has others, drop one of them
blanks in a conversation   | --data.infilling.share 0.5 --data.kind hf --data.train asked.json --data.text_column messages | data.text_column messages has others, drop one of them
blanks in a task           | --data.infilling.share 0.5 --data.kind grammar --data.task answer | data.infilling makes prompts of the texts: data.task answer has its own, drop one of them
blanks beside labels       | --data.infilling.share 0.5 --data.kind grammar --data.label tense --data.label_prompts 1 | data.label_prompts makes others of the labels, drop one of them
blanks of right answers    | --data.infilling.share 0.5 --data.kind hf --data.train rows.json --data.answer_column text --evaluation.task answer | the missing words are their right answers, drop data.answer_column
blanks in a store          | --data.infilling.share 0.5 --data.store s | data.store holds text alone, drop one of them
blanks in a stream         | --data.infilling.share 0.5 --data.kind hf --data.streaming true --data.store s | data.store holds text alone, drop one of them
blanks in packed rows      | --data.infilling.share 0.5 --likelihood.packing concatenate | it needs text without prompts
blanks among ids           | --data.infilling.share 0.5 --tokenizer.kind ids | a blank is no number, as tokenizer.kind ids needs; use another kind
blanks in a mixture        | --data.kind mixture --data.infilling.share 0.5 | unknown key 'data.infilling': it is one of data.kind
blanks of an oracle        | --data.kind oracle --data.infilling.share 0.5 | unknown key 'data.infilling': it is one of data.kind
blanks that are unknown    | --data.infilling.share 0.5 --tokenizer.kind character --tokenizer.alphabet 'abcdefghijklmnopqrstuvwxyz ' | data.infilling.blank '_': the tokenizer does not know '_'; choose a mark that it has
a label of the grammar's   | --data.kind grammar --data.label topic | data.label: should be 'tense' or 'subject'
some labels of none        | --data.kind grammar --data.labelled 3 | data.labelled counts labels, and data.label is none
classes of a text file     | --objective.classification.weight 1 --objective.dense no | the data needs labels, use data.kind hf or grammar
classes of no column       | --objective.classification.weight 1 --data.kind hf --data.train rows.json | the data needs labels, set data.label_column
one class alone            | {class} --data.train same.json --data.valid same.json | 1 label(s) in the data; it needs two or more
classes by a hinge         | {class} --data.train labels.json --objective.pair_loss hinge --objective.reward logit | set objective.pair_loss to non_saturating
classes of parts           | {class} --data.train labels.json --discriminator.kind cnn --discriminator.representations 2 | it reads one set of features, set discriminator.representations to 1
classes by self-play       | {class} --data.train labels.json --objective.estimator.kind spin --warmup.steps 0 | objective.classification.weight should be 0
classes of no training     | {class} --data.train labels.json --warmup.steps 0 --adversarial.steps 0 | nothing would train it
a negative weight of class | --objective.classification.weight -1 | objective.classification.weight: should be greater than or equal to 0
a share of classes alone   | --objective.classification.labelled_share 0.5 | objective.classification.labelled_share is for a discriminator with classes
a share too small          | {class} --data.train labels.json --objective.classification.labelled_share 0.01 | labelled_share 0.01 of warmup.batch_size 8 is not one text
a share of what all have   | {class} --data.train labels.json --data.valid labels.json --objective.classification.labelled_share 0.5 | every training text has a label; drop the key
labels alone and a GAN     | {class} --data.train labels.json --objective.classification.real_fake_weight 0 | set adversarial.steps to 0
labels alone and an energy | {class} --data.train labels.json --objective.classification.real_fake_weight 0 --adversarial.steps 0 --objective.residual_candidates 4 | set objective.residual_candidates to 0
labels alone and R1        | {class} --data.train labels.json --objective.classification.real_fake_weight 0 --adversarial.steps 0 --objective.r1_weight 1 | set objective.r1_weight to 0
features for no generator  | {class} --data.train labels.json --adversarial.steps 0 --objective.classification.feature_matching_weight 1 | it needs adversarial.steps
features of a control      | {class} --data.train labels.json --objective.reward random --objective.classification.feature_matching_weight 1 | is a control only without
features of continuations  | {class} --data.train labels.json --objective.dense no --objective.estimator.kind rollout --objective.classification.feature_matching_weight 1 | feature_matching_weight compares the texts of a step, and continuations of one text are alike
two teachers               | --objective.estimator.kind distill --objective.estimator.top_k_file k.safetensors --warmup.steps 0 --objective.estimator.on_policy 0 --objective.estimator.teacher runs/t | top_k_file and objective.estimator.teacher are two teachers: leave one out
a file of own texts        | --objective.estimator.kind distill --objective.estimator.top_k_file k.safetensors --warmup.steps 0 --objective.estimator.on_policy 0.5 | top_k_file knows real texts alone: objective.estimator.on_policy should be 0
a file at a temperature    | --objective.estimator.kind distill --objective.estimator.top_k_file k.safetensors --warmup.steps 0 --objective.estimator.on_policy 0 --objective.temperature 2 | top_k_file has probabilities at temperature 1: objective.temperature should be 1
a file of a token store    | --objective.estimator.kind distill --objective.estimator.top_k_file k.safetensors --warmup.steps 0 --objective.estimator.on_policy 0 --data.store store | top_k_file is of text in memory: leave data.store out, and name no data.sources
pay for parts of a class   | {class} --data.train labels.json --data.label_prompts 1 --objective.reward penalty --objective.dense yes | a part of one has no class logits: set objective.dense to false
a penalty of no label      | {class} --data.train labels.json --objective.reward penalty | pays for the label that a prompt asks for: set data.label_prompts true, or the reward to sigmoid
pay for no label           | {class} --data.train labels.json --objective.classification.label_reward_weight 1 | set data.label_prompts true
half a row of json         | --data.kind hf --data.train half.json  | half.json: cannot be read (line
json in no UTF             | --data.kind hf --data.train latin.txt  | latin.txt
rows without text          | --data.kind hf --data.train blank.json | no document in it; column text should hold text
a parquet file that isn't  | --data.kind hf --data.path parquet --data.train one.txt | one.txt
a csv file of nothing      | --data.kind hf --data.path csv --data.train void.txt | void.txt
a csv file of no column    | --data.kind hf --data.path csv --data.train rows.csv | no column text; there are: a, b
a format that is not read  | --data.kind hf --data.path pandas | data.path: pandas is a format, not a data set
a file as a set            | --data.kind hf --data.path one.txt | one.txt
an empty folder as a set   | --data.kind hf --data.path runs/pictures | runs/pictures
a set's name of no one     | --data.kind hf --data.path no/such/set | no/such/set
an oracle that is a text   | --data.kind oracle --data.path one.txt  | one.txt: not an .npz file of plain arrays
an oracle that is a folder | --data.kind oracle --data.path runs     | runs: no such file; an oracle is an .npz file
an oracle of other arrays  | --data.kind oracle --data.path other.npz | other.npz: array 'embedding' is missing
an oracle of whole numbers | --data.kind oracle --data.path whole.npz | whole.npz: lacks the arrays W_input
half a tokenizer           | --tokenizer.kind file --tokenizer.path half.json | half.json: not a tokenizer.json
a tokenizer without an end | --tokenizer.kind file --tokenizer.path endless.json | endless.json: no end-of-text token
a tokenizer in a folder    | --tokenizer.kind file --tokenizer.path runs | runs: no such file; tokenizer.path should name
a vocabulary of too little | --tokenizer.kind bpe --tokenizer.vocab_size 100 | tokenizer.vocab_size: should be greater than or equal to 260
seeds beyond counting      | --seeds 99999999999999999999 | --seeds '99999999999999999999' should be a whole number, at least 1 and at most 1000
seeds of any size          | --seeds {many}           | should be a whole number
seeds of another script    | --seeds ३                | --seeds '३' should be a whole number
a profile of nothing       | --profile                | --profile needs a value: --profile A:B; see gptgan train --help
a profile of one step      | --profile 3              | --profile '3' should be two global steps
a profile backwards        | --profile 5:3            | --profile '5:3' should be two global steps
a profile from 0           | --profile 0:3            | --profile '0:3' should be two global steps
a profile of words         | --profile=a:b            | --profile 'a:b' should be two global steps
a profile of three         | --profile 1:2:3          | --profile '1:2:3' should be two global steps
a profile of any size      | --profile 1:{many}       | should be two global steps
a profile after the end    | --profile 3:99           | records.profile: steps 3 to 99, but the run has 14
a profile of one number    | --records.profile [3]    | records: profile [3] should be two global steps
a template of no text     | --data.kind hf --data.train asked.json --data.valid asked.json --data.prompt_column ask --tokenizer.kind file --tokenizer.path templates/x.json | tokenizer_config.json: chat_template should be a Jinja template
a template of an error    | --data.kind hf --data.train asked.json --data.valid asked.json --data.prompt_column ask --tokenizer.kind file --tokenizer.path wrong/x.json | wrong/tokenizer_config.json) is none: Expected
a start that is a file     | --init_from one.txt     | one.txt is no run folder
a start at any step        | --init_from runs/earlier --init_checkpoint {many} | no checkpoint '999
a baseline of no update   | --continued.steps 1 --likelihood.optimizer.accumulate 2 | continued.steps 1 (adversarial.steps where it is null)
a baseline of no rate     | --continued.learning_rate 0 | continued.learning_rate: should be greater than 0
a greedy sweep            | --evaluation.sweep.temperatures [0.0,1.0] | evaluation.sweep: temperatures should be at least one number, all above 0
a sweep of nothing        | --evaluation.sweep.top_p [] | evaluation.sweep: top_p should be at least one number
a sweep of words          | --evaluation.sweep.top_p [all] | evaluation.sweep.top_p
an unknown embedder       | --evaluation.embedder bert  | evaluation.embedder: should be 'language_model' or 'minilm'
no seeds                  | --seeds 0                | --seeds '0' should be a whole number, at least 1
seeds of nothing          | --seeds                  | --seeds needs a value: --seeds N
half a seed               | --seeds=2.5              | --seeds '2.5' should be a whole number
a runs folder in a file   | --runs_folder one.txt    | one.txt
a runs folder in a bucket | --runs_folder gs://bucket/runs | runs_folder gs://bucket/runs is no folder of this machine: mount the bucket and name a folder in it
a store in a bucket       | --data.store gs://bucket/tokens --likelihood.packing concatenate | data.store gs://bucket/tokens is no folder of this machine
a bucket of another kind  | --checkpoints.folder s3://bucket/runs | checkpoints.folder s3://bucket/runs should be a folder or gs://BUCKET/...; mount another bucket
a place of another kind   | --checkpoints.folder file:///tmp/runs | checkpoints.folder file:///tmp/runs should be a folder or gs://BUCKET/...
a runs folder too long    | --runs_folder {long}{long}   | xxx
a start that is missing   | --init_from runs/none   | /runs/none is no run folder: it has no config.yaml
a start too early         | --init_from runs/new    | holds no checkpoint yet; the first is saved after evaluation.every
a start at no checkpoint  | --init_from runs/earlier --init_checkpoint 77 | no checkpoint '77'; give best, last, a phase, or
a start without a phase   | --init_from runs/earlier --init_checkpoint adversarial | no checkpoint 'adversarial'
a model that is missing   | --init_from hf:no      | init_from: no is no folder; hf:FOLDER should name one
a model of a file         | --init_from hf:one.txt | init_from: one.txt is no folder
a model of a run          | --init_from hf:runs/earlier | init_from: runs/earlier/config.json: no such file
a model of a long name    | --init_from hf:{long}{long} | is no folder
a model of noise          | --init_from hf:noise   | init_from: noise/config.json: not a JSON file
a model of another kind   | --init_from hf:bert    | init_from: bert/config.json: model_type is 'bert'; what is read is gpt2
a model of a pickle       | --init_from hf:pickled --generator.width 12 | generator.width is 12, config.json says 8; leave `generator` out
a model without weights   | --init_from hf:pickled --generator.heads 2 --generator.layers 1 --generator.max_positions 16 | has pytorch_model.bin, a pickle, which is never read
a model without a network | --init_from hub:no-such/model | init_from: model no-such/model can't be fetched from the hub
a model of no name        | --init_from hub:       | init_from: '' is no name of a model
a start of nothing        | --init_from ''          | init_from: is empty; give it a value, or leave the key out
text of no name           | --data.train ''          | data.train: is empty; give it a value, or leave the key out
a file of no name         | --data.kind text --data.train '[one.txt, ""]' | data.train: one of the names is empty; leave it out
a store of no name        | --data.kind text --data.train one.txt --data.store '' | data.store: is empty; give it a value
another network           | --init_from runs/earlier --generator.width 16 | another network (generator.width: 8 -> 16); leave `generator` out
another kind of network   | --init_from runs/earlier --generator.kind lstm | another network (generator.
another size than started | --init_from runs/earlier --vocab_size 999  | vocab_size 999: the tokenizer has 18 tokens
ids from a start of words | --init_from runs/earlier --data.kind oracle | data is token ids, and
a start's tokenizer       | --init_from runs/earlier --tokenizer.kind file --tokenizer.path x.json | tokenizer.path has a vocabulary of 2,
adapters of nothing       | --generator.lora.rank 2 | generator.lora adapts a generator that has learned: set init_from to a run or a model
adapters of rank 0        | --init_from runs/earlier --generator.lora.rank 0 --generator.lora.alpha 8 | generator.lora: alpha has no effect without adapters
adapters of a lower rank  | --init_from runs/earlier --generator.lora.rank -1 | generator.lora.rank: should be greater than or equal to 0
adapters of no matrix     | --init_from runs/earlier --generator.lora.rank 2 --generator.lora.targets [qkv,gate] | 'gate' is no matrix of this network; it has qkv, out, up, down
adapters beside nothing   | --init_from runs/earlier --generator.lora.rank 2 --generator.lora.trained [head/*] | generator.lora.trained 'head/*' matches none of the
adapters of a small judge | --discriminator.lora.rank 2 | unknown key 'discriminator.lora'
adapters of a new judge   | --discriminator.kind transformer --discriminator.lora.rank 2 | lora adapts the weights that the network starts from: set from_generator, or drop lora
all of it frozen          | --likelihood.optimizer.frozen '["*"]' | likelihood.optimizer.frozen ['*'] leaves nothing that learns
frozen under no name      | --warmup.optimizer.frozen [trunk/*] | warmup.optimizer.frozen 'trunk/*' matches none of the
tokens of no start        | --init_vocabulary by_token | init_vocabulary by_token is of what init_from names: set that, or drop init_vocabulary
tokens by another rule    | --init_from runs/earlier --init_vocabulary by_sound | init_vocabulary: should be 'same' or 'by_token'
a run of another config   | --name earlier --seed 3  | holds a run of another config (seed: 0 -> 3); choose another --name
a folder that is no run   | --name pictures          | runs/pictures exists and is no run folder; choose another --name
a file in a run's place   | --name file.txt          | runs/file.txt: Not a directory; choose another --name
"""  # noqa: E501
# Keys over those of tiny.yaml.
IN_FILE = """
a section of nowhere      | {optimizer.lr: 1}        | unknown key 'optimizer'
a list for a section      | {warmup.steps: null, warmup.batch_size: null, warmup: [1]} | warmup is a section with keys of its own, not a list
a number for text         | {name: 5}                | name: should be a valid string, not 5
not a number in YAML      | {objective.temperature: .nan} | objective.temperature: should be a finite number, not nan
infinity in YAML          | {objective.kl_weight: -.inf}  | objective.kl_weight: should be a finite number, not -inf
a fraction for a count    | {likelihood.steps: 2.5}  | likelihood.steps: should be a valid integer, got a number with a fractional part
a day for a name          | {name: 2026-01-02}       | name: should be a valid string
a wrong value of any size | {likelihood.steps: {manyx}} | …
a section for a number    | {seed: null, likelihood.steps: null, likelihood: {steps: {a: 1}}} | likelihood.steps: should be a valid integer
true for an integer       | {warmup.steps: true}     | warmup.steps should be integer, not true
"""  # noqa: E501
# In place of tiny.yaml, with escapes.
WHOLE_FILE = r"""
malformed YAML            | seed: 1\nname: [1\nx: y\n     | bad.yaml, line 3:
a tab                     | data:\n\tkind: text\n         | bad.yaml, line 2: found character '\t' that cannot start
a key twice               | seed: 1\nname: x\nseed: 2\n   | bad.yaml, line 3: key 'seed' is given twice
a key twice in a section  | data: {kind: text, train: a, kind: hf}\n | bad.yaml, line 1: key 'kind' is given twice
a section in itself       | data: &d {kind: text, train: *d}\n | bad.yaml: an anchor (&name) holds itself
a list without end        | {deep}                        | bad.yaml: nested too deeply
an anchor of nowhere      | data: *d\n                    | bad.yaml, line 1: found undefined alias 'd'
a NUL in a path           | data: {kind: text, train: "~a\\0b"}\n | data.train '~a\x00b' holds a character
half a character          | name: "\\ud800"\n             | name '\ud800' holds a character
a tag of Python's         | name: !!python/name:os.system\n | could not determine a constructor for the tag
UTF-16                    | \xff\xfen\x00a\x00              | bad.yaml: not UTF-8 at byte 0
two documents             | seed: 1\n---\nseed: 2\n        | bad.yaml, line 2: but found another document
an archive as config      | PK\x03\x04\x00\x00               | bad.yaml: not valid YAML
text and no key           | just a text\n                 | a config is a mapping of keys to values, not a str
a list as key             | ? [a, b]\n: 1\n               | bad.yaml, line 1
a day that does not exist | name: 2026-02-30\n            | bad.yaml
a list of configs         | - seed: 1\n                   | a config is a mapping of keys to values, not a list
a config not in UTF-8     | name: \xff\n                  | bad.yaml: not UTF-8 at byte 6
a control character       | name: a\x07b\n                | bad.yaml: not valid YAML
"""
# In place of a comparison's file; its base is tiny.yaml unless it says otherwise.
COMPARISONS = """
a key of nowhere          | arm: {a: }                    | bad.yaml: unknown key 'arm'; did you mean 'arms'?
a config for a comparison | data: {kind: text}            | bad.yaml: unknown key 'data'; the keys here are base, seeds
no arms                   | seeds: 2                      | bad.yaml: arms should be at least one
a list of arms            | arms: [a, b]                  | bad.yaml: arms should be a mapping of names to values, not a list
no base                   | base: null                    | bad.yaml: base should be a config file, such as
a base that is missing    | {base: no.yaml, arms: {a: }}  | bad.yaml: base: no.yaml: no such config file
a base that is none       | {base: one.txt, arms: {a: }}  | bad.yaml: base: one.txt: a config is a mapping
half a seed               | {seeds: 1.5, arms: {a: }}     | bad.yaml: seeds 1.5 should be a whole number, at least 1
seeds beyond counting     | {seeds: 1001, arms: {a: }}    | bad.yaml: seeds 1001 should be a whole number, at least 1 and at most 1000
an arm in itself          | {arms: {a: {set: [1]}}}       | bad.yaml: arm a: set should be a mapping of names to values, not a list
arms that are a number    | {arms: 3}                     | bad.yaml: arms should be a mapping of names to values, not a int
a base that is a number   | {base: 3, arms: {a: }}        | bad.yaml: base should be a config file, such as oracle_lstm.yaml, not 3
a base that is a folder   | {base: runs, arms: {a: }}     | bad.yaml: base: runs: Is a directory; give a YAML file
a base in no UTF          | {base: latin.txt, arms: {a: }} | bad.yaml: base: latin.txt: not UTF-8
a preset that is a list   | {arms: {a: {preset: [x]}}}    | bad.yaml: arm a: preset should be a config file, not ['x']
an arm of nan             | {arms: {a: {set: {objective.kl_weight: .nan}}}} | bad.yaml: arm a: objective.kl_weight: should be a finite number
an arm's file of no code  | {arms: {a: {set: {objective.estimator: {kind: custom, factory: nowhere_at_all:x}}}}} | bad.yaml: arm a: factory 'nowhere_at_all:x' should be module:function and importable
no seeds                  | {seeds: 0, arms: {a: }}       | bad.yaml: seeds 0 should be a whole number
true seeds                | {seeds: yes, arms: {a: }}     | bad.yaml: seeds True should be a whole number
a key of no config        | {set: {warmup.stepz: 1}, arms: {a: }} | unknown key 'warmup.stepz'; did you mean 'warmup.steps'?
a key through a value     | {set: {seed.x: 1}, arms: {a: }} | bad.yaml: base tiny.yaml: seed.x: seed is a value, not a section
settings that are none    | {set: 3, arms: {a: }}         | bad.yaml: set should be a mapping of names to values, not a int
nothing to start from     | {set: {likelihood.steps: 0}, arms: {a: }} | likelihood.steps is 0, and the arms would have nothing
no temperature 1          | {set: {evaluation.sweep.temperatures: [0.5]}, arms: {a: }} | evaluation.sweep lacks temperature 1
an arm that is a word     | {arms: {a: fast}}             | bad.yaml: arm a should be a mapping with some of preset, set, from_scratch, or empty
an arm's misspelt key     | {arms: {a: {presett: x}}}     | bad.yaml: arm a: unknown key 'presett'; did you mean 'preset'?
a preset that is missing  | {arms: {a: {preset: no.yaml}}} | bad.yaml: arm a: preset: no.yaml: no such config file
a preset of no name       | {arms: {a: {preset: 3}}}      | bad.yaml: arm a: preset should be a config file, not 3
an arm's unknown key      | {arms: {a: {set: {objective.rewart: x}}}} | bad.yaml: arm a: unknown key 'objective.rewart'; did you mean
an arm's unknown section  | {arms: {a: {set: {objectiv.reward: x}}}} | bad.yaml: arm a: unknown key 'objectiv'; did you mean 'objective'?
an arm's wrong value      | {arms: {a: {set: {objective.temperature: hot}}}} | bad.yaml: arm a: objective.temperature: should be a
an arm that can't be      | {arms: {a: {set: {objective.estimator.kind: rollout}}}} | bad.yaml: arm a: objective.estimator rollout scores
an arm of other text      | {arms: {a: {set: {data.max_length: 5}}}} | bad.yaml: arm a: data.max_length is the same for all arms
an arm of other training  | {arms: {a: {set: {likelihood.steps: 5}}}} | bad.yaml: arm a: likelihood.steps is the same for all arms
an arm's key of no kind   | {arms: {a: {set: {objective.estimator: {baseline: none, kind: rloo}}}}} | bad.yaml: arm a: unknown key 'objective.estimator.baseline'
an arm's own network      | {arms: {a: {set: {generator.width: 16}}}} | bad.yaml: arm a: its generator is another network
an arm of no steps        | {arms: {a: {set: {adversarial.steps: 0}}}} | bad.yaml: arm a: adversarial.steps is 0
an arm that freezes none  | {arms: {a: {set: {adversarial.generator_optimizer.frozen: [xyz]}}}} | bad.yaml: arm a: adversarial.generator_optimizer.frozen 'xyz' matches none
two arms of one folder    | {arms: {a b: , A-B: }}        | bad.yaml: arm A-B: its folder would be a-b, as that of arm a b; rename one
two arms of one label     | {arms: {x: {set: {objective.reward: constant}}, 'control: x': }} | as another arm; rename one
an arm of no letters      | {arms: {'?': }}               | bad.yaml: arm ?: its name should hold a letter or a digit
an arm's from_scratch     | {arms: {a: {from_scratch: 1}}} | bad.yaml: arm a: from_scratch should be true or false, not 1
a preset from scratch     | {arms: {a: {from_scratch: true, preset: tiny.yaml}}} | bad.yaml: arm a: from_scratch trains by likelihood alone, and a preset is a method; drop one of them
a method from scratch     | {arms: {a: {from_scratch: true, set: {warmup.steps: 3}}}} | bad.yaml: arm a: warmup.steps is the same for all arms; set it beside `arms` (an arm from scratch has its own generator, likelihood)
no training from scratch  | {arms: {a: {from_scratch: true, set: {likelihood.steps: 0}}}} | bad.yaml: arm a: base: likelihood.steps is 0
an arm called likelihood  | {arms: {Likelihood: }}        | bad.yaml: arm Likelihood: this name is reserved for the baselines
a name of no folder       | {set: {name: a/b}, arms: {a: }} | name 'a/b' must be a plain folder name
a comparison in a run     | {set: {name: earlier}, arms: {a: }} | runs/earlier is a run folder; choose another --name
a run of another kind     | {set: {name: half}, arms: {a: }} | holds a run of another config
"""  # noqa: E501
COMMANDS = """
no comparison             | compare                  | give a file first: gptgan compare FILE
a missing comparison      | compare no.yaml          | no.yaml: no such config file
a comparison of no seeds  | compare tiny.yaml --seeds 0 | --seeds '0' should be a whole number, at least 1
no study                  | study                    | give a file first: gptgan study FILE
a missing study           | study no.yaml            | no.yaml: no such config file
a study that is a config  | study tiny.yaml          | tiny.yaml: unknown key
a study of no seeds       | study tiny.yaml --seeds 0 | --seeds '0' should be a whole number, at least 1
a study of no workers     | study tiny.yaml --workers 0 | --workers '0' should be a whole number, at least 1 and at most 9999
a study's mistyped flag   | study tiny.yaml --worker 2 | unknown flag --worker; did you mean --workers?
no config                 | train                    | give a config first: gptgan train quickstart
an override for a config  | train --seed 1           | give a config first
a config that is missing  | train no.yaml            | no.yaml: no such config file; the project's own are in
a config misspelt         | train quikstart          | quikstart: no such config file; did you mean quickstart?
a directory as config     | train runs               | runs: Is a directory; give a YAML file
a config inside a file    | train tiny.yaml/x        | tiny.yaml/x
sample of nothing         | sample runs/missing      | runs/missing is no run folder: it has no config.yaml
sample of no run          | sample runs/pictures     | runs/pictures is no run folder
evaluate of nothing       | evaluate runs/missing    | runs/missing is no run folder: it has no config.yaml
evaluate of no run        | evaluate runs/pictures   | runs/pictures is no run folder
sample too early          | sample runs/new          | holds no checkpoint yet; the first is saved after evaluation.every
evaluate too early        | evaluate runs/new        | has no checkpoint of a trained generator yet
sweep too early           | evaluate runs/new --sweep | has no checkpoint of a trained generator yet
report of nothing         | report runs/missing      | runs/missing is no run folder: it has no config.yaml
report of no run          | report                   | required: run
a step not saved          | sample runs/earlier --checkpoint 77  | no checkpoint '77'; give best, last, a phase, or the step of
a phase not begun         | sample runs/earlier --checkpoint adversarial  | no checkpoint 'adversarial'
a checkpoint of no name   | sample runs/earlier --checkpoint bset    | no checkpoint 'bset'
unknown words             | sample runs/earlier --prompt 'two zebras fly' | the tokenizer doesn't know 'zebras', 'fly'
a prompt in no UTF        | sample runs/earlier --prompt {latin}   | --prompt is not UTF-8 (byte 0xe9)
a system turn in no UTF   | chat runs/earlier --system {latin}     | --system is not UTF-8 (byte 0xe9)
a prompt too long         | sample runs/earlier --prompt 'two cats run here two cats' | 6 tokens; this run takes at most 5
no texts                  | sample runs/earlier --num 0           | --num: '0' should be a whole number, at least 1
half a text               | sample runs/earlier --num 1.5         | --num: '1.5' should be a whole number
a temperature below 0     | sample runs/earlier --temperature -1  | --temperature: '-1' should be a number, at least 0
no temperature            | sample runs/earlier --temperature nan | --temperature: 'nan' should be a number
no mass                   | sample runs/earlier --top-p 0         | --top-p: '0' should be a number
too much mass             | sample runs/earlier --top-p 1.1       | --top-p: '1.1' should be a number
prompts for a run of none | sample runs/earlier --prompts one.txt     | --prompts is for runs that learned to answer prompts
prompts of two kinds      | sample runs/earlier --prompts one.txt --prompt two | --prompts already gives the prompts; drop --prompt
texts as a table          | sample runs/earlier --out x.csv           | texts are written as JSON lines or one per line; end it in .jsonl or .txt
lengths without prompts   | sample runs/earlier --max-length 3        | --max-length are for a model (hf:FOLDER
texts into a bucket       | sample runs/earlier --out gs://bucket/x.txt | --out gs:/bucket is an address, and nothing is written there; give a place on this machine
responses into a folder   | sample runs/earlier --prompts one.txt --out runs | --out runs: give the name of a new file
responses into the prompts | sample runs/earlier --prompts one.txt --out ./one.txt | give the name of a new file
responses of no model     | sample hf:no --prompts one.txt            | no is no folder; hf:FOLDER should name one
responses of a checkpoint | sample hf:no --prompts one.txt --checkpoint last | --checkpoint last is of a run, and hf:no is a model
a run's own lengths       | sample runs/earlier --prompts one.txt --max-length 3 | --max-prompt-length and --max-length are for a model (hf:FOLDER, gguf:FILE
no text to write          | data                     | give a config first: gptgan data quickstart
text of no split          | data tiny.yaml --split   | --split needs a value: --split NAME
text to write of no split | data tiny.yaml --out x.jsonl | --split  should be one of train, valid, test
text of an unknown split  | data tiny.yaml --split dev | --split dev should be one of train, valid, test
ids as text               | data tiny.yaml --split test --data.kind oracle | data.kind oracle generates token ids, not text
text that there is not    | data tiny.yaml --split test --data.valid one.txt | this data has no test text of its own
text into a folder        | data tiny.yaml --split test --out runs | --out runs: give the name of a new file
text into a file's folder | data tiny.yaml --split test --out one.txt/x | is not a writable folder; give another
blanks for a run of none  | sample runs/earlier --prompt 'two _' --fill | --fill is for runs with data.infilling, and runs/earlier has none; drop it
a label of no labels      | sample runs/earlier --label past         | --label is for runs with data.label_prompts
no file to classify       | classify runs/earlier                 | required: file
to classify without class | classify runs/earlier s.txt           | this run's discriminator tells no classes
to classify in no run     | classify runs/missing s.txt           | runs/missing is no run folder
to classify nothing       | classify runs/told no.jsonl           | no.jsonl: no such file
to classify a folder      | classify runs/told runs               | runs: no such file
to classify half a row    | classify runs/told half.json          | half.json
to classify rows of none  | classify runs/told rows.csv           | no column text; there are: a, b
to classify blank rows    | classify runs/told blank.json         | no document in it
to classify numbers       | classify runs/told numbers.json       | row 1: column text holds [1], which is no text; lists of whole numbers
to classify in no UTF     | classify runs/told latin.txt          | latin.txt, line 3: not UTF-8
to classify other labels  | classify runs/told other.json        | row 1: label 'z' is none of the run's labels: a, b
to classify too early     | classify runs/told s.txt --checkpoint likelihood | the discriminator of checkpoint likelihood/0 has learned nothing
to classify at no step    | classify runs/told s.txt --checkpoint 77 | no checkpoint '77'
told texts over their own | classify runs/told s.txt --out s.txt  | --out s.txt: give the name of a new file
told texts over a folder  | classify runs/told s.txt --out runs   | --out runs: give the name of a new file
texts of nobody to score  | score runs/earlier                    | give a file of texts, or --samples N
texts of two to score     | score runs/earlier s.txt --samples 3  | give a file of texts, or --samples N
a seed of texts to score  | score runs/earlier s.txt --seed 3     | --seed goes with --samples N, and the texts of a file are there already
a column of samples       | score runs/earlier --samples 3 --text-column a | --text-column goes with a file of rows, and samples have no columns
prompts of samples        | score runs/earlier --samples 3 --prompt-column a | --prompt-column goes with a file of rows, and samples have no columns
to score in no run        | score runs/missing s.txt              | runs/missing is no run folder
to score nothing          | score runs/told no.jsonl              | no.jsonl: no such file
to score no texts         | score runs/earlier --samples 0        | --samples: '0' should be a whole number, at least 1
to score rows of none     | score runs/told rows.csv              | no column text; there are: a, b
to score columns of lines | score runs/told s.txt --text-column a | s.txt has one text per line and no columns
to score prompts of none  | score runs/told rows.csv --prompt-column b | this run's discriminator reads no prompts
to score at no step       | score runs/told s.txt --checkpoint 77 | no checkpoint '77'
to score too early        | score runs/told s.txt --checkpoint likelihood | the discriminator of checkpoint likelihood/0 has learned nothing
scores over their texts   | score runs/told s.txt --html s.txt    | --html s.txt: give the name of a new file
scores in one place       | score runs/told s.txt --html x --out x | --html and --out are both x: give two files
scores into a file        | score runs/told s.txt --html one.txt/x | --html one.txt
told texts into a file    | classify runs/told s.txt --out one.txt/x | --out one.txt
to write for no label     | sample runs/told                      | --label: give one of a, b
to write for another      | sample runs/told --label z            | --label: 'z' is none of this run's labels; give one of a, b
to write for both         | sample runs/told --label a --prompt b | this run answers labels, not prompts; drop --prompt
fewer than no tokens      | sample runs/earlier --top-k -1        | --top-k: '-1' should be a whole number
a seed below 0            | sample runs/earlier --seed -1         | --seed: '-1' should be a whole number
an option of nowhere      | sample runs/earlier --nmu 3           | unrecognized arguments: --nmu 3
a seed no key can hold    | sample runs/earlier --seed {nines}    | --seed: '
texts beyond counting     | sample runs/earlier --num {nines}     | --num: '
tokens beyond counting    | sample runs/earlier --top-k {nines}   | --top-k: '
an infinite temperature   | sample runs/earlier --temperature 1e999 | --temperature: '1e999' should be a number
a step of any size        | sample runs/earlier --checkpoint {many} | no checkpoint '999
a step below 0            | sample runs/earlier --checkpoint=-1   | no checkpoint '-1'
a checkpoint of another place | sample runs/earlier --checkpoint ../likelihood | no checkpoint '../likelihood'
a prompt that rings       | sample runs/earlier --prompt 'two \x07cats' | the tokenizer doesn't know '\\x07cats'
a prompt of an escape     | sample runs/earlier --prompt '\x1b[2J' | the tokenizer doesn't know '\\x1b[2J'
a prompt of an end        | sample runs/earlier --prompt 'two <eos> cats' | the tokenizer doesn't know '<eos>'
a prompt of any length    | sample runs/earlier --prompt '{words}' | tokens; this run takes at most 5
a file as a run           | sample tiny.yaml                      | tiny.yaml is no run folder: it has no config.yaml
the folder of all runs    | evaluate runs                         | runs is no run folder
nowhere as a run          | sample ''                             | . is no run folder
a run of a long name      | sample {long}{long}                   | xxx
to resample out of one    | sample runs/earlier --resample 1      | --resample: '1' should be a whole number, at least 2
to resample out of half   | sample runs/earlier --resample 2.5    | --resample: '2.5' should be a whole number
to resample out of words  | sample runs/earlier --resample many   | --resample: 'many' should be a whole number
a batch size of no prompts | sample runs/earlier --batch-size 4      | --batch-size goes with --prompts FILE; give that, or drop it
a unit of a model         | evaluate hf:no --config tiny.yaml --unit word | --unit is not for a pre-trained model; set --evaluation.unit
a seed of a model         | evaluate hf:no --config tiny.yaml --seed 0 | --seed is not for a pre-trained model; drop it
two ways to choose        | sample runs/earlier --resample 2 --best-of 2 | --best-of chooses by likelihood, --resample by the discriminator
the best of one           | sample runs/earlier --best-of 1       | --best-of: '1' should be a whole number, at least 2
the best for a file       | sample runs/earlier --best-of 2 --prompts one.txt | --prompts keeps every response; drop --best-of
weights while resampling  | sample runs/earlier --resample 2 --weights bfloat16 | --weights bfloat16 is for the generator
to resample a prompt      | sample runs/earlier --resample 2 --prompt two | --resample chooses among whole texts; drop --prompt
to resample too early     | sample runs/earlier --resample 2      | no checkpoint 'warmup'
to resample untrained     | sample runs/earlier --resample 2 --checkpoint likelihood | the discriminator of checkpoint likelihood/0 has learned nothing
chat with nothing         | chat runs/missing                     | runs/missing is no run folder: it has no config.yaml
chat too early            | chat runs/new                         | this run learned text without prompts
chat with a writer        | chat runs/earlier                     | this run learned text without prompts; chat needs one
chat with labels          | chat runs/told                        | this run answers labels, not prompts: gptgan sample --label, one of a, b
chat at no checkpoint     | chat runs/earlier --checkpoint 77     | this run learned text without prompts
chat below 0              | chat runs/earlier --temperature -1    | --temperature: '-1' should be a number, at least 0
chat with a prompt        | chat runs/earlier --prompt two        | unrecognized arguments: --prompt two
no run to chat with       | chat                                  | required: run
evaluate nothing          | evaluate                              | give a run folder, or --samples FILE --references FILE
evaluate two things       | evaluate runs/earlier --samples s.txt | give a run folder, or --samples FILE
references alone          | evaluate --references r.txt           | give a run folder, or --samples FILE
samples alone             | evaluate --samples s.txt              | --samples needs --references FILE
samples that are missing  | evaluate --samples no.txt --references r.txt | --samples: no such file: no.txt
samples of nothing        | evaluate --samples void.txt --references r.txt | --samples: void.txt is empty
samples of blank lines    | evaluate --samples blank.txt --references r.txt | --samples: blank.txt is empty
samples in no UTF         | evaluate --samples latin.txt --references r.txt | latin.txt, line 3: not UTF-8
a picture as samples      | evaluate --samples png.txt --references r.txt | png.txt, line 1: not UTF-8
a folder as samples       | evaluate --samples runs --references r.txt | a JSON file should hold an object a line
one sample                | evaluate --samples one.txt --references r.txt | --samples: one.txt has 1 text; at least 2 are needed
one reference             | evaluate --samples s.txt --references one.txt | --references: one.txt has 1 text; at least 6 are needed
references missing        | evaluate --samples s.txt --references no.txt | --references: no such file: no.txt
training text missing     | evaluate --samples s.txt --references r.txt --training no.txt | --training: no such file: no.txt
samples of other words    | evaluate --samples digits.txt --references r.txt | samples and references must be spelt by one tokenizer
references trained on     | evaluate --samples s.txt --references r.txt --training r.txt | references must be held-out text
a sweep of a file         | evaluate --samples s.txt --references r.txt --sweep | --sweep needs a run
results into a file       | evaluate --samples s.txt --references r.txt --out one.txt | --out one.txt
an embedder of no one     | evaluate runs/earlier --embedder bert | --embedder: invalid choice: 'bert'
a seed for a run          | evaluate runs/earlier --seed 1        | --seed goes with --samples
a folder for a run        | evaluate runs/earlier --out x         | --out goes with --samples
a seed of any size        | evaluate --samples s.txt --references r.txt --seed {nines} | --seed: '
a report into a file      | report runs/judged runs/judged --out one.txt | one.txt
a report into a bucket    | report runs/judged runs/judged --out gs://bucket/x | --out gs:/bucket/x is an address
a report beside its run   | report runs/judged --out x            | --out is for a comparison of several runs
export of nothing         | export runs/missing --to hf           | runs/missing is no run folder: it has no config.yaml
export to nowhere         | export runs/earlier                   | required: --to
export to another program | export runs/earlier --to onnx         | --to: invalid choice: 'onnx'
export too early          | export runs/new --to hf               | holds no checkpoint yet; the first is saved after evaluation.every
export of no checkpoint   | export runs/earlier --to hf --checkpoint 77 | no checkpoint '77'; give best, last, a phase, or
export over a file        | export runs/earlier --to hf --out one.txt | one.txt exists; name another folder with --out, or remove it
export into a bucket      | export runs/earlier --to hf --out gs://bucket/x | --out gs:/bucket/x is an address
export over a folder      | export runs/earlier --to hf --out runs | runs exists; name another folder with --out, or remove it
export over a link        | export runs/earlier --to hf --out loop.txt | loop.txt exists; name another folder with --out
export into a file        | export runs/earlier --to hf --out one.txt/x | one.txt/x can't be written (Not a directory)
export to a long name     | export runs/earlier --to hf --out {long}{long} | can't be written (File name too long)
export of another network | export runs/lstm --to hf              | runs/lstm --to hf: Hugging Face models have no generator.kind lstm
no run to export          | export --to hf                        | required: run
no run to sample          | sample                                | required: run
a misspelt command        | trian tiny.yaml                       | 'trian'
no command                |                                       | required: COMMAND
"""  # noqa: E501
# What becomes of a file of runs/earlier or runs/judged, and what is asked then.
DAMAGE = """
an empty config           | earlier/config.yaml       | empty  | sample runs/earlier    | runs/earlier
a config of noise         | earlier/config.yaml       | noise  | sample runs/earlier    | runs/earlier/config.yaml: not UTF-8
a folder for a config     | earlier/config.yaml       | folder | sample runs/earlier    | runs/earlier is no run folder: it has no config.yaml
a config of another key   | earlier/config.yaml       | {stepz: 3} | sample runs/earlier | runs/earlier/config.yaml: unknown key 'stepz'
a config of another width | earlier/config.yaml       | generator.width=16 | sample runs/earlier | checkpoint
a config of more words    | earlier/config.yaml       | vocab_size=19 | sample runs/earlier | vocab_size 19: the tokenizer has 18 tokens
no tokenizer              | earlier/tokenizer/tokenizer.json | gone   | sample runs/earlier | tokenizer/tokenizer.json: no such file
half a tokenizer          | earlier/tokenizer/tokenizer.json | half   | sample runs/earlier | tokenizer/tokenizer.json: not a tokenizer.json
a tokenizer of noise      | earlier/tokenizer/tokenizer.json | noise  | sample runs/earlier | tokenizer/tokenizer.json: not a tokenizer.json
another tokenizer         | earlier/tokenizer/tokenizer.json | x.json | sample runs/earlier | tokenizer.json has
a tokenizer of wild names | earlier/tokenizer/tokenizer_config.json | {a: 1} | sample runs/earlier | tokenizer_config.json: not a JSON file
half a list of names      | earlier/tokenizer/tokenizer_config.json | half | sample runs/earlier | tokenizer_config.json: not a JSON file
names of noise            | earlier/tokenizer/tokenizer_config.json | noise | sample runs/earlier | tokenizer_config.json: not a JSON file
no checkpoints            | earlier/checkpoints       | gone   | sample runs/earlier    | holds no checkpoint yet
a file for checkpoints    | earlier/checkpoints       | noise  | sample runs/earlier    | holds no checkpoint yet
half a checkpoint         | earlier/checkpoints       | halved | sample runs/earlier    | checkpoint
an empty checkpoint       | earlier/checkpoints       | emptied | sample runs/earlier   | checkpoint
a checkpoint of noise     | earlier/checkpoints       | noised | sample runs/earlier    | checkpoint
to export half            | earlier/checkpoints       | halved | export runs/earlier --to hf | checkpoint
to export without scores  | earlier/evaluation.json   | {a: 1} | export runs/earlier --to hf | evaluation.json is damaged
metrics of noise          | earlier/checkpoints/likelihood/0/metrics/metrics | noise | sample runs/earlier | is damaged: metrics/metrics has
no held-out text          | earlier/held_out.npz      | gone   | evaluate runs/earlier  | held_out.npz is missing
half a held-out text      | earlier/held_out.npz      | half   | evaluate runs/earlier  | held_out.npz is damaged
no held-out text at all   | earlier/held_out.npz      | empty  | evaluate runs/earlier  | held_out.npz is damaged
held-out text of noise    | earlier/held_out.npz      | noise  | evaluate runs/earlier  | held_out.npz is damaged
no names of labels        | told/classes.json         | gone   | classify runs/told s.txt | 0 label(s) in the data
half the names of labels  | told/classes.json         | half   | classify runs/told s.txt | classes.json is damaged
names of noise            | told/classes.json         | noise  | sample runs/told --label a | classes.json is damaged
names that are numbers    | told/classes.json         | {a: 1} | classify runs/told s.txt | classes.json is damaged
half an evaluation        | judged/evaluation.json    | half   | report runs/judged     | evaluation.json is damaged
an evaluation of noise    | judged/evaluation.json    | noise  | report runs/judged     | evaluation.json is damaged
an evaluation of nothing  | judged/evaluation.json    | empty  | report runs/judged     | evaluation.json is damaged
another's evaluation      | judged/evaluation.json    | {a: 1} | report runs/judged     | evaluation.json is damaged
a folder for an evaluation | judged/evaluation.json   | folder | report runs/judged     | evaluation.json is damaged
one damaged of two        | judged/evaluation.json    | half   | report runs/earlier runs/judged --out runs/x | runs/
to go on without a text   | earlier/held_out.npz      | gone   | train tiny.yaml --name earlier | held_out.npz is missing
to go on with half a text | earlier/held_out.npz      | half   | train tiny.yaml --name earlier | held_out.npz is damaged
to go on without words    | earlier/tokenizer/tokenizer.json | gone | train tiny.yaml --name earlier | tokenizer/tokenizer.json: no such file
to go on with half words  | earlier/tokenizer/tokenizer.json | half | train tiny.yaml --name earlier | not a tokenizer.json
to start from half        | earlier/checkpoints       | halved | train tiny.yaml --init_from runs/earlier | init_from
to start from noise       | earlier/tokenizer/tokenizer.json | noise | train tiny.yaml --init_from runs/earlier | init_from
"""  # noqa: E501
# Of runs/told, a run whose discriminator has classes, over those of tiny.yaml.
TOLD = {
    "data.kind": "hf",
    "data.label_column": "is",
    "data.label_prompts": True,
    "objective.dense": False,
    "objective.classification": {"weight": 1.0},
}
UNKNOWS_ALL = (
    b'{"version":"1.0","model":{"type":"BPE","vocab":{"</s>":0,"#":1},"merges":[]},"added_tokens":[],'
    b'"normalizer":null,"pre_tokenizer":null,"post_processor":null,"decoder":null,"truncation":null,"padding":null}'
)
BAD_FILES = {
    "void.txt": b"",
    "blank.txt": b" \n\n",
    "latin.txt": b"a b\nc d\ncaf\xe9 e\n",
    "one.txt": b"a b c\n",
    "rows.json": b'{"text": "a b"}\n{"text": "c d"}\n',
    "x.json": UNKNOWS_ALL,
    "utf16.txt": "two cats\n".encode("utf-16"),
    "png.txt": b"\x89PNG\r\n\x1a\n\x00\x00",
    "mark.txt": b"\xef\xbb\xbf",
    "gaps.json": b'{"text": "a b"}\n{"said": "c d"}\n',
    "numbers.json": b'{"text": [1]}\n{"text": [2]}\n',
    "lists.json": b'{"text": "a b", "ask": ["x"]}\n' * 9,
    "asks.json": b'{"text": "a b", "ask": "x"}\n{"text": "c d"}\n',
    "asked.json": b'{"text": "a b", "ask": "x"}\n' * 9,
    "labels.json": b'{"text": "a b", "half": 0.5, "list": ["x"], "nothing": null, "is": "a"}\n' * 9
    + b'{"text": "c d", "half": 0.5, "list": ["x"], "nothing": null, "is": "b"}\n',
    "other.json": b'{"text": "a b", "is": "z"}\n' * 9,
    "same.json": b'{"text": "a b", "is": "a"}\n{"text": "c d", "is": "a"}\n' * 9,
    "long.json": b'{"text": "a b", "is": "b a"}\n{"text": "c d", "is": "c a"}\n' * 9,
    "rows.csv": b"a,b\n1,2\n",
    "half.json": b'{"text": "a b"}\n{"text": "c d',
    "blank.json": b'{"text": ""}\n{"text": "  "}\n',
    "endless.json": UNKNOWS_ALL.replace(b"</s>", b"stop"),
    "s.txt": b"two cats run\ncats sleep here\n",
    "r.txt": b"".join(b"two cats run here %d\ncats sleep\n" % i for i in range(9)),
    "digits.txt": b"17 18 19\n20 21\n",
}


FILLED = {
    "{long}": 201 * "x",
    "{nines}": 30 * "9",
    "{many}": 5000 * "9",
    "{manyx}": 5000 * "x",
    "{words}": 5000 * "two ",
    "{deep}": 5000 * "[",
    "{latin}": b"caf\xe9".decode(errors="surrogateescape"),  # as Python has it in sys.argv
    "{class}": "--objective.classification.weight 1 --objective.dense no --data.kind hf --data.label_column is",
}


def filled(text: str) -> str:
    for name, value in FILLED.items():
        text = text.replace(name, value)
    return text


def table(text: str) -> list:
    rows = [[cell.strip() for cell in line.split(" | ")] for line in text.strip("\n").split("\n")]
    return [pytest.param(*cells, id=name.replace(" ", "-")) for name, *cells in rows]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the user stands: tiny.yaml, its text, bad files, and earlier runs."""
    folder = tmp_path_factory.mktemp("home")
    for name, content in BAD_FILES.items():
        (folder / name).write_bytes(content)
    np.savez(folder / "other.npz", other=np.zeros((3, 2), np.float32))
    np.savez(folder / "whole.npz", embedding=np.zeros((3, 2), np.int32))
    experiment, _ = tiny_experiment(folder)
    write_config(folder, {"runs_folder": "runs"})
    write_model(folder / "pickled", TransformerConfig(layers=1, width=8, heads=2, max_positions=16))
    (folder / "pickled" / WEIGHTS_FILE).rename(folder / "pickled" / "pytorch_model.bin")
    for name, content in (("noise", b"\xff"), ("bert", b'{"model_type": "bert"}')):
        (folder / name).mkdir()
        (folder / name / "config.json").write_bytes(content)
    for name, content in (("templates", b'{"chat_template": 7}'), ("wrong", b'{"chat_template": "{% for %}"}')):
        (folder / name).mkdir()
        (folder / name / "x.json").write_bytes(BAD_FILES["x.json"])
        (folder / name / "tokenizer_config.json").write_bytes(content)
    for name in ("new", "earlier"):
        run = RunFolder(folder / "runs" / name)
        save_held_out(run.path, held_out_of(experiment))
        run.create(experiment.config, experiment.tokenizer)
        text = run.config_file.read_text().replace("name: tiny", f"name: {name}")
        run.config_file.write_text(text)
    gan = build_gan(experiment.config, "likelihood", experiment.generator, experiment.discriminator)
    with Checkpoints(run.checkpoints) as checkpoints:
        checkpoints.save("likelihood", jax.jit(gan.init)(jax.random.key(0), experiment.example_batch()), 2.0)
    lstm = tiny_config(
        folder, {name: None for name in TINY if name.startswith("generator.")} | {"generator.kind": "lstm"}
    )
    (folder / "runs" / "lstm").mkdir()
    RunFolder(folder / "runs" / "lstm").create(lstm, experiment.tokenizer)
    write_config(folder, {"runs_folder": "runs"})
    (folder / "told").mkdir()
    labels = str(folder / "labels.json")
    told, _ = tiny_experiment(folder / "told", TOLD | dict.fromkeys(("data.train", "data.valid"), labels))
    run = RunFolder(folder / "runs" / "told")
    save_held_out(run.path, held_out_of(told))
    run.create(told.config, told.tokenizer, told.corpus.classes)
    gan = build_gan(told.config, "likelihood", told.generator, told.discriminator)
    with Checkpoints(run.checkpoints) as checkpoints:
        checkpoints.save("likelihood", jax.jit(gan.init)(jax.random.key(0), told.example_batch()), 2.0)
    shutil.rmtree(folder / "told")
    (folder / "runs" / "pictures").mkdir()
    (folder / "runs" / "pictures" / "cat.jpg").write_bytes(b"cat")
    (folder / "runs" / "file.txt").write_bytes(b"words")
    shutil.copytree(folder / "runs" / "new", folder / "runs" / "half" / "likelihood-seed0")
    shutil.copytree(folder / "runs" / "new", folder / "runs" / "judged")
    evaluation().save(folder / "runs" / "judged")
    return folder


@pytest.fixture
def here(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `home` to stand in."""
    folder = tmp_path / "here"
    shutil.copytree(home, folder)
    (folder / "loop.txt").symlink_to("loop.txt")
    os.mkfifo(folder / "pipe")
    monkeypatch.chdir(folder)
    return folder


def snapshot(folder: Path) -> dict[str, tuple[int, str]]:
    """Every path under a folder, with the time of its last change and what it holds."""
    return {
        str(path): (
            path.lstat().st_mtime_ns,
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() and not path.is_symlink() else "",
        )
        for path in [folder, *folder.rglob("*")]
    }


def assert_refused(arguments: list[str], says: str, folder: Path, capsys: pytest.CaptureFixture) -> None:
    before = snapshot(folder)
    capsys.readouterr()
    try:
        status = main(arguments)
    except SystemExit as exit:  # argparse leaves by itself
        status = exit.code
    written, errors = capsys.readouterr()
    assert status == 2
    assert written == ""
    assert_one_line(errors, says)
    assert snapshot(folder) == before


def assert_one_line(errors: str, says: str) -> None:
    """One line besides the notes on the text, which hold whatever comes after them, and argparse's usage."""
    errors = re.sub(r"^usage: .*\n( +.*\n)*", "", errors)
    lines = [line for line in errors.splitlines() if not line.startswith("note: ")]
    assert len(lines) == 1, errors
    assert lines[0].startswith("gptgan"), errors
    assert says in lines[0]


@pytest.mark.parametrize(("given", "says"), table(OVERRIDES))
def test_a_bad_override_or_what_it_names_is_refused(given: str, says: str, here: Path, capsys) -> None:
    assert_refused(["train", "tiny.yaml", *shlex.split(filled(given))], says, here, capsys)


@pytest.mark.parametrize(("given", "says"), table(IN_FILE))
def test_a_bad_key_in_a_config_is_refused(given: str, says: str, here: Path, capsys) -> None:
    write_config(here, {"runs_folder": "runs"} | yaml.safe_load(filled(given)))
    assert_refused(["train", "tiny.yaml"], says, here, capsys)


@pytest.mark.parametrize(("given", "says"), table(WHOLE_FILE))
def test_a_file_that_is_no_config_is_refused(given: str, says: str, here: Path, capsys) -> None:
    (here / "bad.yaml").write_bytes(filled(given).encode().decode("unicode_escape").encode("latin-1"))
    assert_refused(["train", "bad.yaml"], says, here, capsys)


@pytest.mark.parametrize(("given", "says"), table(COMPARISONS))
def test_a_bad_comparison_is_refused(given: str, says: str, here: Path, capsys) -> None:
    raw = {"base": "tiny.yaml"} | yaml.safe_load(given)
    (here / "bad.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    assert_refused(["compare", "bad.yaml"], says, here, capsys)


@pytest.mark.parametrize(("given", "says"), table(COMMANDS))
def test_a_bad_command_line_is_refused(given: str, says: str, here: Path, capsys) -> None:
    assert_refused(shlex.split(filled(given)), says, here, capsys)


def damage(path: Path, how: str) -> None:
    """Makes a file, or what is in a folder, other than it was."""
    for file in [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]:
        content = file.read_bytes()
        if how in ("half", "halved"):
            file.write_bytes(content[: len(content) // 2])
        elif how in ("empty", "emptied"):
            file.write_bytes(b"")
        elif how == "noised":
            file.write_bytes(bytes(255 - byte for byte in content))
    if how in ("gone", "noise", "folder"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        if how == "noise":
            path.write_bytes(b"\xff\x00\xfe noise")
        elif how == "folder":
            path.mkdir()
    elif how.endswith(".json"):
        shutil.copyfile(how, path)
    elif how.startswith("{"):
        path.write_text(how)
    elif "=" in how:
        key, _, value = how.partition("=")
        node = tree = yaml.safe_load(path.read_text())
        *parents, last = key.split(".")
        for name in parents:
            node = node[name]
        node[last] = int(value)
        path.write_text(yaml.safe_dump(tree))


@pytest.mark.parametrize(("file", "how", "given", "says"), table(DAMAGE))
def test_a_damaged_run_is_refused(file: str, how: str, given: str, says: str, here: Path, capsys) -> None:
    damage(here / "runs" / file, how)
    assert_refused(shlex.split(given), says, here, capsys)


def test_too_little_disk_is_refused_with_what_it_takes(here: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(total=10**9, used=10**9, free=2000))
    assert_refused(["train", "tiny.yaml"], "0 MB are free on the disk; free some space", here, capsys)


def test_a_missing_wandb_is_refused_before_the_run_folder_is_made(here: Path, capsys, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    arguments = ["train", "tiny.yaml", "--records.wandb_project", "gan"]
    assert_refused(arguments, "wandb_project needs the package wandb: pip install", here, capsys)


def test_a_run_without_a_generator_phase_ends_well_or_is_refused_at_once(here: Path, capsys) -> None:
    before = snapshot(here)
    status = main(["train", "tiny.yaml", "--likelihood.steps", "0", "--adversarial.steps", "0"])
    assert status == 0 or snapshot(here) == before, capsys.readouterr().err


def test_a_batch_that_eight_devices_cannot_share_is_refused(here: Path) -> None:
    before = snapshot(here)
    arguments = ["train", "tiny.yaml", "--warmup.batch_size", "12"]
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from gptgan_jax.cli import main; sys.exit(main())", *arguments],
        env=os.environ
        | {
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8",
            "JAX_PLATFORMS": "cpu",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert_one_line(done.stderr, "warmup.batch_size 12 is not a multiple of the 8 devices that share it; try 16")
    assert snapshot(here) == before


def test_a_config_that_cannot_be_read_is_refused(here: Path, capsys) -> None:
    if os.geteuid() == 0:
        pytest.skip("root can read every file")
    (here / "tiny.yaml").chmod(0)
    assert_refused(["train", "tiny.yaml"], "tiny.yaml: Permission denied; give a YAML file", here, capsys)
