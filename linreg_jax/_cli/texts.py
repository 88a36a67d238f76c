"""What `--help` says of the commands, besides their options."""

DESCRIPTION = """\
Linear regression on your own data: reads a CSV or .npz file, trains by gradient
descent, and sets the exact answer beside it. Without a command: Hubble's nebulae
of 1929, their gradients four ways, a verdict on learning rates, a fit."""

TOUR = "explain gradient descent step by step, ending in pictures, tour.png or --plot FILE"

EXAMPLES = """\
examples:
  linreg-jax
  linreg-jax --tour
  linreg-jax fit houses.csv --target price --save houses.model
  linreg-jax predict new.csv --model houses.model --out prices.csv
  linreg-jax diagnose houses.csv --target price
  linreg-jax plot houses.csv --target price --features area --out surface.png

exit codes:
  0 all is well, 1 a run diverged or ended with a larger loss than it began
  with, or a gradient is wrong, 2 the arguments or a file are, 130 interrupted
  (Ctrl-C)

Files are written before anything is printed, each of them whole or not at all,
and never over a file that is read."""

FIT_EXAMPLES = """\
examples:
  linreg-jax fit houses.csv --target price
  linreg-jax fit houses.csv --target price --features area,rooms --test-fraction 0.2
  linreg-jax fit houses.csv --target price --loss huber:1.35 --optimizer adam
  linreg-jax fit houses.csv --target price --epochs 20 --batch-size 64 --seed 1
  linreg-jax fit houses.csv --target price --lasso --cross-validate
  linreg-jax fit houses.csv --target price --save houses.model --json houses.json

The table of standard errors is of the exact minimum on the rows fitted to, each row
being one observation; --covariance hc3 is right where errors differ from row to row,
for mae, quantile and epsilon_insensitive hc0, which takes no leverages, or nid.

The features are standardized while training, and the coefficients are given in
the units of the file. --ridge and --lasso act on the weights as they are trained;
both together are an elastic net, and --elastic S:SHARE is that of scikit-learn's
ElasticNet(S, l1_ratio=SHARE) beside half_mse; SHARE is 0.5 where it is not given.

--cross-validate tries the strengths of one penalty, --lasso 0.01,0.1,1, or 50 that
suit the data where none is given, and fits with the best. The larger strength
within one standard error of it is printed too: for simpler models, pass that one.

--learning-rate auto is the best constant rate where there is one: for sgd, and a
part of it for momentum and nesterov, with every loss but mae, quantile and
epsilon_insensitive. With those losses, and for adam, rmsprop and adagrad, it is a
rate that falls to 1/10,000 of a first one in the units of the data; in Python,
optax.exponential_decay. The report says which rates were taken.

A run that diverges, or ends with a larger loss than it began with, writes no file:
exit code 1. After Ctrl-C while training, the files and the report are of the steps
taken so far: exit code 130; after Ctrl-C before that, nothing is written.

--json FILE writes one object; every key is always there, and numbers that are
not finite are null:
  format          1; another number means that keys have changed their meaning
  file            the file that was read
  target          its name
  features        their names, in order
  rows            rows fitted to; with dropped_rows, those that missed a value
  loss            as it is written in Python, with its penalty
  optimizer       its name
  first_learning_rate, learning_rate
                  of the first step and of the last
  dtype           float32 or float64
  standardized    true or false
  status          converged, out_of_steps or interrupted; there is no file of a run
                  that diverged or ended with a larger loss than it began with
  num_steps       steps taken
  coefficients    {name: number} in the units of the file
  intercept       a number
  exact           {coefficients, intercept} of the exact minimum; null with --lasso
                  and log_cosh
  inference       {covariance, level, reference_degrees (of t), residual_deviation,
                  f_statistic, f_p_value, sparsity and tail_examples (of mae and
                  quantile), coefficients {name: row}, intercept: row}, a row being
                  {coefficient, standard_error, t, p, lower, upper} at the minimum;
                  null with --covariance none and with --lasso
  cross_validation
                  {penalty, folds, best, one_standard_error, strengths, mean,
                  standard_error, scores}: best and the largest strength within one
                  standard error of it; of each strength, the loss on held-out rows,
                  its standard error, and the loss of each fold; null without
                  --cross-validate
  training        {rows, loss, r2}: of all rows fitted to, at the end, in mini-batch
                  runs too; the loss without its penalty
  test            the same of the rows held out; null without --test-fraction
  seconds         {read, fit}; a choice of the strength counts as read"""

PREDICT_NOTES = """\
--interval 0.95 adds the columns "TARGET lower" and "TARGET upper".

A prediction for each row, in their order. In a file of one column a blank line is
a row that misses its value; in a file of more columns it is no row, and predict
warns of it. Blank lines at the end are never rows. The output is CSV in UTF-8; a
name that a spreadsheet would take for a formula (=...) gets an apostrophe before
it."""

PLOT_EXAMPLES = """\
kinds of pictures:
  surface         the loss over two parameters (--over), and the paths walked on it
  learning-rates  what a sweep of rates leads to, and the path of each (--rates)
  losses          the loss by step, of each rate in --rates
  fit             the line through the data, or predicted against observed
  gradients       the four ways to the gradient against each other
  animation       surface and fit, frame by frame, as .gif (or .mp4 with ffmpeg)

examples:
  linreg-jax plot houses.csv --target price --features area --out surface.png
  linreg-jax plot houses.csv --target price --over area,rooms --out surface.png
  linreg-jax plot houses.csv --target price --kind learning-rates \\
      --rates 0.1,0.6,0.8 --out rates.png"""
